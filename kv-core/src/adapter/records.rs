//! The records of a store inside one transaction.

use std::ops::Bound;
use std::time::SystemTime;

use crate::entry::Entry;
use crate::error::Result;
use crate::expiry::Deadline;
use crate::key::Key;
use crate::version::Version;

/// A range of canonical texts, as [`ListQuery::range`](crate::ListQuery::range) returns it.
pub type TextRange = (Bound<String>, Bound<String>);

/// The reads and writes inside one transaction of one writer. [`evaluate`](super::evaluate) needs nothing else.
///
/// Reads return the writes of the same transaction. A record is the stored form of an entry, live or expired. A write
/// also keeps the index by deadline in the same transaction, so that [`Records::due`] finds the record.
///
/// A store over an ordered map of bytes gets an implementation from [`engine`](super::engine). A store with columns or
/// with a format of its own implements this trait.
pub trait Records {
    /// Begins the next call of the batch: takes the time from the clock, and forgets the changes of earlier calls. A
    /// batch may be older than a call that joins it, so each call is judged at a time of its own (clause T-2).
    fn begin_call(&mut self);

    /// True if the current call has changed a record or tried to.
    fn has_changed(&self) -> bool;

    /// Returns the time at which the current call is judged.
    fn now(&self) -> SystemTime;

    /// Returns the deadline of a record.
    ///
    /// # Errors
    /// `Corrupt` if the record is damaged, and the errors of reading.
    fn deadline(&mut self, key: &Key) -> Result<Option<Deadline>>;

    /// Returns the entry of a record, and its deadline.
    ///
    /// # Errors
    /// `Corrupt` if the record is damaged, and the errors of reading.
    fn entry(&mut self, key: &Key) -> Result<Option<(Entry, Deadline)>>;

    /// Writes a record, in place of the record of the key, which may be damaged.
    ///
    /// # Errors
    /// The errors of writing.
    fn put(&mut self, key: &Key, version: Version, deadline: Deadline, value: &[u8]) -> Result<()>;

    /// Changes the deadline of a record. Version and value stay. Does nothing if there is no record.
    ///
    /// # Errors
    /// `Corrupt` if the record is damaged, and the errors of reading and writing.
    fn set_deadline(&mut self, key: &Key, deadline: Deadline) -> Result<()>;

    /// Removes a record, which may be damaged. Does nothing if there is no record.
    ///
    /// # Errors
    /// The errors of writing.
    fn remove(&mut self, key: &Key) -> Result<()>;

    /// Returns the keys of the first records of a range: at most `limit` keys.
    ///
    /// # Errors
    /// The errors of reading.
    fn keys(&mut self, range: &TextRange, limit: usize) -> Result<KeyChunk>;

    /// Returns keys of due records, from the earliest deadline on. Reads at most `limit` items of the index by deadline.
    /// An implementation may remove items of the index that belong to no record.
    ///
    /// # Errors
    /// The errors of reading.
    fn due(&mut self, limit: usize) -> Result<Due>;
}

/// The keys of a part of a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyChunk {
    /// The keys, in order.
    pub keys: Vec<Key>,
    /// True if the range may have more keys after the last key of this chunk.
    pub has_more: bool,
}

/// The keys of due records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// The keys, from the earliest deadline on.
    pub keys: Vec<Key>,
    /// True if there may be more due records.
    pub has_more: bool,
}
