//! Recorded histories of keys under concurrent clients, and the check that they are linearizable (clause G-2).
//! Transactions are checked for each key, and for being visible as a whole.

mod atomic;
mod check;
mod model;
mod record;
mod several;
#[cfg(test)]
mod tests;
mod timeline;

pub(crate) use self::record::{Workload, linearizable};
