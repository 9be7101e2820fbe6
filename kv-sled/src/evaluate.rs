//! Evaluating a write of a single key: the condition is checked against the tree with the changes of the batch, and the
//! change is added to the batch.

use bytes::Bytes;
use kv_core::{
    Deadline, DeleteOptions, DeleteOutcome, Entry, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions,
    SetOutcome, Version, When, counter, stored,
};

use crate::batch_builder::BatchBuilder;

pub(crate) fn set(
    batch: &mut BatchBuilder<'_>,
    key: &Key,
    value: &Bytes,
    version: Version,
    options: &SetOptions,
) -> Result<SetOutcome> {
    let SetOptions { expiry, when, return_previous, .. } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let live = batch.live(key)?.map(|(entry, _)| entry);
        if !when.holds(live.as_ref()) {
            return Ok(SetOutcome::Refused { current: live });
        }
        previous = live.filter(|_| *return_previous);
    }
    put(batch, key, value, version, *expiry)?;
    Ok(SetOutcome::Stored { version: Some(version), previous })
}

pub(crate) fn delete(batch: &mut BatchBuilder<'_>, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
    let DeleteOptions { when, return_previous, .. } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let live = batch.live(key)?.map(|(entry, _)| entry);
        if !when.holds(live.as_ref()) {
            return Ok(DeleteOutcome::Refused { current: live });
        }
        previous = live.filter(|_| *return_previous);
    }
    Ok(if remove(batch, key)? { DeleteOutcome::Deleted { previous } } else { DeleteOutcome::Missing })
}

pub(crate) fn touch(batch: &mut BatchBuilder<'_>, key: &Key, expiry: NewExpiry) -> Result<bool> {
    let Some(current) = batch.live_deadline(key)? else { return Ok(false) };
    let deadline = Deadline::resolve(expiry.into(), batch.now(), Some(current));
    if deadline.has_passed(batch.now()) {
        batch.put(key, None)?;
    } else if let Some(stored) = batch.stored(key)? {
        let mut stored = stored.to_vec();
        stored::set_deadline(key, &mut stored, deadline)?;
        batch.put(key, Some(stored))?;
    }
    Ok(true)
}

pub(crate) fn increment(
    batch: &mut BatchBuilder<'_>,
    key: &Key,
    by: i64,
    version: Version,
    options: &IncrementOptions,
) -> Result<i64> {
    let IncrementOptions { expiry, .. } = options;
    let (sum, expiry) = match batch.live(key)? {
        Some((Entry { value, .. }, _)) => (counter::add(&value, by)?, Expiry::Keep),
        None => (by, *expiry),
    };
    put(batch, key, sum.to_string().as_bytes(), version, expiry)?;
    Ok(sum)
}

/// Removes an entry, which may be damaged. Returns true if the entry was live or damaged.
pub(crate) fn remove(batch: &mut BatchBuilder<'_>, key: &Key) -> Result<bool> {
    let Some(stored) = batch.stored(key)? else { return Ok(false) };
    let has_passed = stored::deadline(key, &stored).is_ok_and(|deadline| deadline.has_passed(batch.now()));
    batch.put(key, None)?;
    Ok(!has_passed)
}

/// Writes an entry without a condition. Replaces a damaged entry, unless the new entry keeps the deadline of the old
/// entry.
pub(crate) fn put(
    batch: &mut BatchBuilder<'_>,
    key: &Key,
    value: &[u8],
    version: Version,
    expiry: Expiry,
) -> Result<()> {
    let current = if expiry == Expiry::Keep { batch.live_deadline(key)? } else { None };
    let deadline = Deadline::resolve(expiry, batch.now(), current);
    if deadline.has_passed(batch.now()) {
        // The new entry has already expired, so the key becomes absent.
        return if batch.stored(key)?.is_some() { batch.put(key, None) } else { Ok(()) };
    }
    batch.put(key, Some(stored::encode(key, &version, deadline, value)))
}
