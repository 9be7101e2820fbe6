//! Group commit: one thread evaluates queued writes in one transaction.

mod health;
mod job;
mod queue;
mod worker;

use std::time::Duration;

use self::job::Job;
pub use self::job::Pending;
pub use self::queue::Writer;
use super::commit_error::CommitError;
use super::records::Records;
use crate::error::Result;

/// The database of a [`Writer`]. The writer's thread owns it and makes all calls.
pub trait Committer: Send + 'static {
    /// Begins a transaction, calls `work` with its records, and commits. Returns true if the transaction changed
    /// anything. If `work` fails, rolls back and returns its error as [`CommitError::NotApplied`].
    ///
    /// The section that makes the changes visible also notifies the hub of each changed key, so that no read returns
    /// a change before the sinks know of it (clause W-5). After a [`CommitError::Unknown`] the hub is notified as well.
    ///
    /// # Errors
    /// See [`CommitError`].
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Records) -> Result<()>) -> Result<bool, CommitError>;

    /// Makes all committed transactions durable. The writer calls this method after each transaction that changed
    /// anything, and acknowledges the writes after it.
    ///
    /// # Errors
    /// Any error. The writes get an `Indeterminate` error, and the writer refuses later writes, because a later success
    /// would not say that the earlier writes are durable.
    fn sync(&mut self) -> Result<()>;

    /// Reports to all watchers and sinks that changes may be missing. The writer calls this method after a panic of the
    /// other methods, and then makes no call except `close`.
    fn suspend(&mut self);

    /// Ends all watches and releases the files.
    ///
    /// # Errors
    /// Any error, which `close` of the store returns.
    fn close(self) -> Result<()>;
}

/// The settings of a [`Writer`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The name of the writer's thread. The default is `kv-writer`.
    pub thread: String,
    /// The maximum number of writes that wait in the queue. One more caller waits for a place. The default is 1,024.
    pub max_queued: usize,
    /// The maximum number of writes of one transaction. The default is 1,024.
    pub max_batch: usize,
    /// The total size of the writes of one transaction, in bytes, at which the transaction ends. The default is 8 MiB.
    pub max_batch_bytes: usize,
    /// The interval of the background sweeper, on the clock of the store. The default is 500 ms.
    pub sweep_interval: Duration,
    /// The longest time that one call of the database may take. After it, waiting callers get an error, and the writer
    /// refuses writes until the store is opened again. The default is 10 s. Opening and closing may take longer.
    pub operation_timeout: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            thread: "kv-writer".to_owned(),
            max_queued: 1_024,
            max_batch: 1_024,
            max_batch_bytes: 8 << 20,
            sweep_interval: Duration::from_millis(500),
            operation_timeout: Duration::from_secs(10),
        }
    }
}
