//! What each write makes of what is there.

use bytes::Bytes;
use kv_core::{
    Check, CommitOutcome, Deadline, DeleteOptions, DeleteOutcome, Entry, Error, Expiry, IncrementOptions, Key,
    Mutation, NewExpiry, Result, SetOptions, SetOutcome, Transaction, Version, When, counter, stored,
};

use crate::draft::Draft;

pub(crate) fn set(
    draft: &mut Draft<'_>,
    key: &Key,
    value: &Bytes,
    version: Version,
    options: &SetOptions,
) -> Result<SetOutcome> {
    let SetOptions { expiry, when, return_previous, .. } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let live = draft.live(key)?.map(|(entry, _)| entry);
        if !when.holds(live.as_ref()) {
            return Ok(SetOutcome::Refused { current: live });
        }
        previous = live.filter(|_| *return_previous);
    }
    put(draft, key, value, version, *expiry)?;
    Ok(SetOutcome::Stored { version: Some(version), previous })
}

pub(crate) fn delete(draft: &mut Draft<'_>, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
    let DeleteOptions { when, return_previous, .. } = options;
    let mut previous = None;
    if *return_previous || *when != When::Always {
        let live = draft.live(key)?.map(|(entry, _)| entry);
        if !when.holds(live.as_ref()) {
            return Ok(DeleteOutcome::Refused { current: live });
        }
        previous = live.filter(|_| *return_previous);
    }
    Ok(if remove(draft, key)? { DeleteOutcome::Deleted { previous } } else { DeleteOutcome::Missing })
}

pub(crate) fn touch(draft: &mut Draft<'_>, key: &Key, expiry: NewExpiry) -> Result<bool> {
    let Some(current) = draft.live_deadline(key)? else { return Ok(false) };
    let deadline = Deadline::resolve(expiry.into(), draft.now(), Some(current));
    if deadline.has_passed(draft.now()) {
        draft.put(key, None)?;
    } else if let Some(stored) = draft.stored(key)? {
        let mut stored = stored.to_vec();
        stored::set_deadline(key, &mut stored, deadline)?;
        draft.put(key, Some(stored))?;
    }
    Ok(true)
}

pub(crate) fn increment(
    draft: &mut Draft<'_>,
    key: &Key,
    by: i64,
    version: Version,
    options: &IncrementOptions,
) -> Result<i64> {
    let IncrementOptions { expiry, .. } = options;
    let (sum, expiry) = match draft.live(key)? {
        Some((Entry { value, .. }, _)) => (counter::add(&value, by)?, Expiry::Keep),
        None => (by, *expiry),
    };
    put(draft, key, sum.to_string().as_bytes(), version, expiry)?;
    Ok(sum)
}

/// Judges and applies a transaction; `versions` has one for each mutation.
pub(crate) fn commit(draft: &mut Draft<'_>, transaction: &Transaction, versions: &[Version]) -> Result<CommitOutcome> {
    let Transaction { checks, mutations, .. } = transaction;
    for (place, Check { key, when, .. }) in checks.iter().enumerate() {
        if *when != When::Always {
            let live = draft.live(key)?.map(|(entry, _)| entry);
            if !when.holds(live.as_ref()) {
                return Ok(CommitOutcome::Refused { check: place });
            }
        }
    }
    // What can fail below fails before anything is changed: by reading, which the draft remembers.
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, expiry: Expiry::Keep, .. } => drop(draft.live_deadline(key)?),
            Mutation::Set { key, .. } | Mutation::Delete { key, .. } => drop(draft.stored(key)?),
            _ => return Err(Error::invalid("the transaction has a mutation that this store does not know")),
        }
    }
    let mut given = Vec::with_capacity(mutations.len());
    for (mutation, version) in mutations.iter().zip(versions) {
        match mutation {
            Mutation::Set { key, value, expiry, .. } => {
                put(draft, key, value, *version, *expiry)?;
                given.push(Some(*version));
            }
            other => {
                remove(draft, other.key())?;
                given.push(None);
            }
        }
    }
    Ok(CommitOutcome::Committed { versions: given })
}

/// Removes whatever is there, damaged or not, and tells whether it was live.
pub(crate) fn remove(draft: &mut Draft<'_>, key: &Key) -> Result<bool> {
    let Some(stored) = draft.stored(key)? else { return Ok(false) };
    let has_passed = stored::deadline(key, &stored).is_ok_and(|deadline| deadline.has_passed(draft.now()));
    draft.put(key, None)?;
    Ok(!has_passed)
}

/// Writes without a question. What is there may be damaged, unless its deadline is to be kept.
fn put(draft: &mut Draft<'_>, key: &Key, value: &[u8], version: Version, expiry: Expiry) -> Result<()> {
    let current = if expiry == Expiry::Keep { draft.live_deadline(key)? } else { None };
    let deadline = Deadline::resolve(expiry, draft.now(), current);
    if deadline.has_passed(draft.now()) {
        // Absent at once; where nothing was there, nothing changes.
        return if draft.stored(key)?.is_some() { draft.put(key, None) } else { Ok(()) };
    }
    draft.put(key, Some(stored::encode(key, &version, deadline, value)))
}
