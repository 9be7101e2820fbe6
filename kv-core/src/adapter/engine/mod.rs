//! A whole store over an ordered map of bytes with transactions.
//!
//! The author of an adapter writes [`Engine`], [`Reads`] and [`Writes`]: open, snapshot, begin, get, put, remove, scan
//! and commit. [`EngineStore`] is then a [`KvStore`](crate::KvStore) with every capability that a store in one process
//! can have: [`CAPABILITIES`].
//!
//! The map has two kinds of keys, so that one transaction changes both:
//!
//! | first byte | rest of the key | value |
//! |---|---|---|
//! | `d` | the canonical text of the key | header and value, as in [`stored`](crate::stored) |
//! | `e` | deadline, milliseconds since the Unix epoch, 8 bytes big-endian, then the canonical text | empty |
//!
//! All other keys are foreign and stay untouched. A physical key has at most [`MAX_KEY_BYTES`] bytes.

mod batch;
mod committer;
mod layout;
mod store;
mod visible;
mod write;

use std::fmt::Debug;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

pub use self::store::{EngineOptions, EngineStore};
use super::CommitError;
use crate::capabilities::{Capabilities, List, Reach, Transactions};
use crate::error::Result;

/// The capabilities of an [`EngineStore`] without its durability, which depends on [`Engine::sync`]. The author adds it:
/// `CAPABILITIES.with_durability(…)`.
pub const CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_watch(Reach::Process)
    .with_watch_expiry()
    .with_sinks()
    .with_messages(Reach::Process);

/// The maximum size of a physical key, in bytes: 2,409.
pub const MAX_KEY_BYTES: usize = layout::MAX_KEY_BYTES;

/// A range of physical keys.
pub type ByteRange<'r> = (Bound<&'r [u8]>, Bound<&'r [u8]>);

/// The function that a scan calls with each key and its value.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// An embedded database: an ordered map from bytes to bytes with one writer at a time.
pub trait Engine: Debug + Send + Sync + 'static {
    /// A consistent view for reads.
    type Snapshot<'e>: Reads
    where
        Self: 'e;
    /// A transaction that changes the map.
    type Transaction<'e>: Writes
    where
        Self: 'e;

    /// Begins to read. The snapshot has every transaction whose commit has returned. The call runs on the thread of the
    /// caller and must not wait for a writer.
    ///
    /// # Errors
    /// The errors of reading, by kind: [`io_error`](super::io_error) helps.
    fn snapshot(&self) -> Result<Self::Snapshot<'_>>;

    /// Begins a transaction. Only one transaction exists at a time. Dropping it without a commit rolls it back.
    ///
    /// # Errors
    /// The errors of beginning. Nothing was changed.
    fn begin(&self) -> Result<Self::Transaction<'_>>;

    /// Makes all committed transactions durable. Runs on the writer's thread, and reads go on meanwhile.
    ///
    /// # Errors
    /// Any error. The store then refuses writes until it is opened again.
    fn sync(&self) -> Result<()>;
}

/// Reads of a map.
pub trait Reads {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// The errors of reading.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Calls `visit` with the keys of a range and their values, in ascending order or reversed, until it returns
    /// `Break`. Reads no more of the range than it passes on (clause L-3).
    ///
    /// # Errors
    /// The errors of reading.
    fn scan(&self, range: ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) -> Result<()>;
}

/// Reads and changes of a map in one transaction. Reads return the changes.
pub trait Writes: Reads {
    /// Writes a value.
    ///
    /// # Errors
    /// The errors of writing. The transaction is rolled back.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes a key. Does nothing if there is no such key.
    ///
    /// # Errors
    /// The errors of writing. The transaction is rolled back.
    fn remove(&mut self, key: &[u8]) -> Result<()>;

    /// Makes all changes visible to later snapshots, all or nothing, also across a crash. Reads wait for this call, so
    /// it should not flush: [`Engine::sync`] follows.
    ///
    /// # Errors
    /// [`CommitError::NotApplied`] only if the changes are certainly not applied and never will be.
    fn commit(self) -> Result<(), CommitError>;
}

#[cfg(test)]
mod tests;
