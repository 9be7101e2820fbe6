//! Recorded histories of keys under concurrent clients, and the check that they are linearizable (clause G-2).
//! The checks of transactions cover each key alone, and the visibility of each transaction as a whole.

mod atomic;
mod check;
mod model;
mod record;
mod several;
#[cfg(test)]
mod tests;
mod timeline;

pub(crate) use self::record::{Workload, linearizable};
