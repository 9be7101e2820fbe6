//! Recorded histories of keys under concurrent clients, and the check that they are linearizable (clause G-2).

mod check;
mod model;
mod record;
#[cfg(test)]
mod tests;
mod timeline;

pub(crate) use self::record::{Workload, linearizable};
