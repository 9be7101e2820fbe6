//! The writer: one thread, which applies queued writes as batches.
//!
//! A batch is one transaction, so that one sync makes all its writes durable (group commit).

mod batch;
mod change_logging;
mod commit;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod rows;
pub(crate) mod worker;
