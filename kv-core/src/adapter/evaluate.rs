//! Evaluating a write over [`Records`]: the condition is checked and the change is made in the same transaction.
//!
//! Each function judges one call at [`Records::now`]. If a function returns an error, it may have changed a part of its
//! records ([`Records::has_changed`]), and then the transaction must not be committed. The [`Writer`](super::Writer)
//! takes care of this.

use std::ops::Bound;

use bytes::Bytes;

use super::records::{KeyChunk, Records, TextRange};
use crate::counter;
use crate::entry::Entry;
use crate::error::{ErrorKind, Result};
use crate::expiry::{Deadline, Expiry, NewExpiry};
use crate::key::Key;
use crate::options::{DeleteOptions, DeleteOutcome, IncrementOptions, SetOptions, SetOutcome, When};
use crate::transaction::{Check, CommitOutcome, Mutation, Transaction};
use crate::version::Version;

/// Evaluates a `set`. `version` is the version of the new entry.
///
/// # Errors
/// The errors of [`Records`].
pub fn set(
    records: &mut dyn Records,
    key: &Key,
    value: &Bytes,
    version: Version,
    options: &SetOptions,
) -> Result<SetOutcome> {
    let SetOptions { expiry, when, return_previous } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let current = live(records, key)?;
        if !when.holds(current.as_ref()) {
            return Ok(SetOutcome::Refused { current });
        }
        previous = current.filter(|_| *return_previous);
    }
    put(records, key, value, version, *expiry)?;
    Ok(SetOutcome::Stored { version: Some(version), previous })
}

/// Evaluates a `delete`. A damaged entry counts as live.
///
/// # Errors
/// The errors of [`Records`].
pub fn delete(records: &mut dyn Records, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
    let DeleteOptions { when, return_previous } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let current = live(records, key)?;
        if !when.holds(current.as_ref()) {
            return Ok(DeleteOutcome::Refused { current });
        }
        previous = current.filter(|_| *return_previous);
    }
    Ok(if remove(records, key)? { DeleteOutcome::Deleted { previous } } else { DeleteOutcome::Missing })
}

/// Evaluates a `touch`. A deadline that has passed removes the entry.
///
/// # Errors
/// The errors of [`Records`].
pub fn touch(records: &mut dyn Records, key: &Key, expiry: NewExpiry) -> Result<bool> {
    let Some(current) = live_deadline(records, key)? else { return Ok(false) };
    let deadline = Deadline::resolve(expiry.into(), records.now(), Some(current));
    if deadline.has_passed(records.now()) {
        records.remove(key)?;
    } else {
        records.set_deadline(key, deadline)?;
    }
    Ok(true)
}

/// Evaluates an `increment`. `version` is the version of the new entry.
///
/// # Errors
/// `Invalid` if the value is not a counter or the sum overflows, and the errors of [`Records`].
pub fn increment(
    records: &mut dyn Records,
    key: &Key,
    by: i64,
    version: Version,
    options: &IncrementOptions,
) -> Result<i64> {
    let IncrementOptions { expiry } = options;
    let (sum, expiry) = match live(records, key)? {
        Some(Entry { value, .. }) => (counter::add(&value, by)?, Expiry::Keep),
        None => (by, *expiry),
    };
    put(records, key, sum.to_string().as_bytes(), version, expiry)?;
    Ok(sum)
}

/// Evaluates a `commit`. `versions` has one version for each mutation.
///
/// # Errors
/// The errors of [`Records`].
pub fn commit(records: &mut dyn Records, transaction: &Transaction, versions: &[Version]) -> Result<CommitOutcome> {
    let Transaction { checks, mutations } = transaction;
    for (check, Check { key, when }) in checks.iter().enumerate() {
        if *when != When::Always && !when.holds(live(records, key)?.as_ref()) {
            return Ok(CommitOutcome::Refused { check });
        }
    }
    let mut assigned = Vec::with_capacity(mutations.len());
    for (mutation, version) in mutations.iter().zip(versions) {
        match mutation {
            Mutation::Set { key, value, expiry } => {
                put(records, key, value, *version, *expiry)?;
                assigned.push(Some(*version));
            }
            Mutation::Delete { key } => {
                remove(records, key)?;
                assigned.push(None);
            }
        }
    }
    Ok(CommitOutcome::Committed { versions: assigned })
}

/// Removes the first entries of a range: at most `limit`. Returns the number of removed entries that were live or
/// damaged, and the rest of the range, which is `None` at its end.
///
/// # Errors
/// The errors of [`Records`].
pub fn clear(records: &mut dyn Records, range: &TextRange, limit: usize) -> Result<(u64, Option<TextRange>)> {
    let KeyChunk { keys, has_more } = records.keys(range, limit)?;
    let mut removed = 0;
    for key in &keys {
        removed += u64::from(remove(records, key)?);
    }
    let rest = keys.last().filter(|_| has_more);
    Ok((removed, rest.map(|last| (Bound::Excluded(last.as_str().to_owned()), range.1.clone()))))
}

/// Removes due entries after reading at most `limit` items of the index by deadline. Returns the number of removed
/// entries, and true if there may be more.
///
/// # Errors
/// The errors of [`Records`].
pub fn sweep(records: &mut dyn Records, limit: usize) -> Result<(u64, bool)> {
    let due = records.due(limit)?;
    for key in &due.keys {
        records.remove(key)?;
    }
    Ok((due.keys.len() as u64, due.has_more))
}

/// Returns the live entry of a key.
fn live(records: &mut dyn Records, key: &Key) -> Result<Option<Entry>> {
    // The deadline comes first: an expired entry is absent, also if its value is damaged.
    if live_deadline(records, key)?.is_none() {
        return Ok(None);
    }
    Ok(records.entry(key)?.map(|(entry, _)| entry))
}

/// Returns the deadline of the live entry of a key.
fn live_deadline(records: &mut dyn Records, key: &Key) -> Result<Option<Deadline>> {
    let now = records.now();
    Ok(records.deadline(key)?.filter(|deadline| !deadline.has_passed(now)))
}

/// Removes a record. Returns true if its entry was live or damaged.
fn remove(records: &mut dyn Records, key: &Key) -> Result<bool> {
    let is_live = match records.deadline(key) {
        Ok(None) => return Ok(false),
        Ok(Some(deadline)) => !deadline.has_passed(records.now()),
        Err(error) if error.kind() == ErrorKind::Corrupt => true,
        Err(error) => return Err(error),
    };
    records.remove(key)?;
    Ok(is_live)
}

/// Writes an entry without a condition. Replaces a damaged entry, unless the new entry keeps the deadline of the old
/// entry.
fn put(records: &mut dyn Records, key: &Key, value: &[u8], version: Version, expiry: Expiry) -> Result<()> {
    let current = if expiry == Expiry::Keep { live_deadline(records, key)? } else { None };
    let deadline = Deadline::resolve(expiry, records.now(), current);
    if deadline.has_passed(records.now()) {
        // The new entry has already expired, so the key becomes absent.
        return records.remove(key);
    }
    records.put(key, version, deadline, value)
}
