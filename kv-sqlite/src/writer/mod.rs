//! The group-commit writer: one thread applies all queued writes in one transaction, so that one sync serves them all.

mod change_logging;
mod commit;
mod gather;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod rows;
pub(crate) mod worker;
