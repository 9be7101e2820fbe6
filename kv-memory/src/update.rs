//! The semantics of each write, for both engines: functions that compute the new slot of a key from its current slot.

use bytes::Bytes;
use kv_core::{
    Deadline, DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, NewExpiry, Result, SetOptions, SetOutcome,
    Version, When, counter,
};

use crate::deadlines::Due;
use crate::slot::{Now, Slot};

/// The change of the slot of a key.
#[derive(Debug)]
pub(crate) enum Change {
    /// Changes nothing.
    Keep,
    /// Inserts this slot, or replaces the current slot by it.
    Put(Slot),
    /// Removes the current slot, if there is one.
    Remove,
}

/// The outcome of one write, and the change that the engine must apply.
#[derive(Debug)]
pub(crate) struct Update<T> {
    pub(crate) outcome: T,
    pub(crate) change: Change,
}

impl<T> Update<T> {
    fn new(outcome: T, change: Change) -> Self {
        Self { outcome, change }
    }
}

/// Returns the slot if it is live, because an expired slot counts as absent in every write.
#[inline]
fn live<'a>(current: Option<&'a Slot>, now: &Now<'_>) -> Option<&'a Slot> {
    current.filter(|slot| slot.is_live(now))
}

/// True if a condition holds. `live` is the live slot of the key, `None` if the key is absent.
#[inline]
pub(crate) fn holds(when: &When, live: Option<&Slot>) -> bool {
    match (when, live) {
        // Decide the most frequent cases without making an `Entry`.
        (When::Always, _) | (When::Absent, None) => true,
        _ => when.holds(live.map(Slot::entry).as_ref()),
    }
}

/// Returns the change that a write makes. If the deadline of the new entry has already passed, the change removes the
/// key (clause T-3).
#[inline]
fn write(live: Option<&Slot>, value: Bytes, version: Version, expiry: Expiry, now: &Now<'_>) -> Change {
    // Do not read the clock for an entry that never expires.
    let deadline = match expiry {
        Expiry::Never => Deadline::NEVER,
        _ => Deadline::resolve(expiry, now.get(), live.map(|slot| slot.deadline)),
    };
    let slot = Slot::new(value, version, deadline);
    if slot.is_live(now) { Change::Put(slot) } else { Change::Remove }
}

#[inline]
pub(crate) fn set(
    current: Option<&Slot>,
    value: Bytes,
    version: Version,
    options: &SetOptions,
    now: &Now<'_>,
) -> Update<SetOutcome> {
    let live = live(current, now);
    if !holds(&options.when, live) {
        return Update::new(SetOutcome::Refused { current: live.map(Slot::entry) }, Change::Keep);
    }
    let previous = if options.return_previous { live.map(Slot::entry) } else { None };
    let change = write(live, value, version, options.expiry, now);
    Update::new(SetOutcome::Stored { version: Some(version), previous }, change)
}

/// Returns the update of a set in a transaction. Such a set has no condition.
pub(crate) fn put(current: Option<&Slot>, value: Bytes, version: Version, expiry: Expiry, now: &Now<'_>) -> Update<()> {
    Update::new((), write(live(current, now), value, version, expiry, now))
}

/// Returns the update of a delete in a transaction. Such a delete has no condition.
pub(crate) fn remove() -> Update<()> {
    Update::new((), Change::Remove)
}

pub(crate) fn delete(current: Option<&Slot>, options: &DeleteOptions, now: &Now<'_>) -> Update<DeleteOutcome> {
    let live = live(current, now);
    if !holds(&options.when, live) {
        return Update::new(DeleteOutcome::Refused { current: live.map(Slot::entry) }, Change::Keep);
    }
    let outcome = match live {
        Some(slot) => DeleteOutcome::Deleted { previous: options.return_previous.then(|| slot.entry()) },
        None => DeleteOutcome::Missing,
    };
    Update::new(outcome, Change::Remove)
}

/// Removes the slot. The outcome is true if the slot was live.
pub(crate) fn clear(current: Option<&Slot>, now: &Now<'_>) -> Update<bool> {
    Update::new(live(current, now).is_some(), Change::Remove)
}

/// Removes the slot to which a due item of the deadline index belongs. The outcome is false if that slot was replaced
/// or removed.
pub(crate) fn sweep(current: Option<&Slot>, due: &Due) -> Update<bool> {
    match current {
        Some(slot) if due.is_of(slot) => Update::new(true, Change::Remove),
        _ => Update::new(false, Change::Keep),
    }
}

pub(crate) fn touch(current: Option<&Slot>, expiry: NewExpiry, now: &Now<'_>) -> Update<bool> {
    match live(current, now) {
        Some(slot) => Update::new(true, write(Some(slot), slot.value.clone(), slot.version, expiry.into(), now)),
        None => Update::new(false, Change::Keep),
    }
}

pub(crate) fn increment(
    current: Option<&Slot>,
    by: i64,
    version: Version,
    options: &IncrementOptions,
    now: &Now<'_>,
) -> Update<Result<i64>> {
    let live = live(current, now);
    let (sum, expiry) = match live {
        Some(slot) => (counter::add(&slot.value, by), Expiry::Keep),
        None => (Ok(by), options.expiry),
    };
    match sum {
        Ok(sum) => {
            let change = write(live, sum.to_string().into(), version, expiry, now);
            Update::new(Ok(sum), change)
        }
        Err(error) => Update::new(Err(error), Change::Keep),
    }
}
