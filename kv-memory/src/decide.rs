//! What each write makes of what is there: the semantics of both engines, without locks or maps.

use bytes::Bytes;
use kv_core::{
    Deadline, DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, NewExpiry, Result, SetOptions, SetOutcome,
    Version, When, counter,
};

use crate::deadlines::Due;
use crate::slot::{Now, Slot};

/// What becomes of a slot.
#[derive(Debug)]
pub(crate) enum Change {
    /// It stays as it is.
    Keep,
    /// This is there from now on.
    Put(Slot),
    /// Nothing is there from now on.
    Remove,
}

/// The outcome of one write over what was there.
#[derive(Debug)]
pub(crate) struct Decision<T> {
    pub(crate) answer: T,
    pub(crate) change: Change,
}

impl<T> Decision<T> {
    fn new(answer: T, change: Change) -> Self {
        Self { answer, change }
    }
}

/// The slot, where it is live: an expired one counts as absent everywhere.
#[inline]
fn live<'a>(current: Option<&'a Slot>, now: &Now<'_>) -> Option<&'a Slot> {
    current.filter(|slot| slot.is_live(now))
}

/// Whether a condition holds over a live slot, or over none.
#[inline]
pub(crate) fn holds(when: &When, live: Option<&Slot>) -> bool {
    match (when, live) {
        // The two that need no entry built.
        (When::Always, _) | (When::Absent, None) => true,
        _ => when.holds(live.map(Slot::entry).as_ref()),
    }
}

/// The slot that a write leaves: none where its deadline has passed already (clause T-3).
#[inline]
fn written(live: Option<&Slot>, value: Bytes, version: Version, expiry: Expiry, now: &Now<'_>) -> Change {
    // A write that never expires asks no clock.
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
) -> Decision<SetOutcome> {
    let live = live(current, now);
    if !holds(&options.when, live) {
        return Decision::new(SetOutcome::Refused { current: live.map(Slot::entry) }, Change::Keep);
    }
    let previous = if options.return_previous { live.map(Slot::entry) } else { None };
    let change = written(live, value, version, options.expiry, now);
    Decision::new(SetOutcome::Stored { version: Some(version), previous }, change)
}

/// Writes without a condition.
pub(crate) fn put(
    current: Option<&Slot>,
    value: Bytes,
    version: Version,
    expiry: Expiry,
    now: &Now<'_>,
) -> Decision<()> {
    Decision::new((), written(live(current, now), value, version, expiry, now))
}

/// Removes without a question.
pub(crate) fn remove() -> Decision<()> {
    Decision::new((), Change::Remove)
}

pub(crate) fn delete(current: Option<&Slot>, options: &DeleteOptions, now: &Now<'_>) -> Decision<DeleteOutcome> {
    let live = live(current, now);
    if !holds(&options.when, live) {
        return Decision::new(DeleteOutcome::Refused { current: live.map(Slot::entry) }, Change::Keep);
    }
    let outcome = match live {
        Some(slot) => DeleteOutcome::Deleted { previous: options.return_previous.then(|| slot.entry()) },
        None => DeleteOutcome::Missing,
    };
    Decision::new(outcome, Change::Remove)
}

/// Removes whatever is there and tells whether it was live.
pub(crate) fn clear(current: Option<&Slot>, now: &Now<'_>) -> Decision<bool> {
    Decision::new(live(current, now).is_some(), Change::Remove)
}

/// Removes what has this place by deadline, which has passed, and tells whether it was there.
pub(crate) fn sweep(current: Option<&Slot>, due: &Due) -> Decision<bool> {
    match current {
        Some(slot) if due.is_of(slot) => Decision::new(true, Change::Remove),
        _ => Decision::new(false, Change::Keep),
    }
}

pub(crate) fn touch(current: Option<&Slot>, expiry: NewExpiry, now: &Now<'_>) -> Decision<bool> {
    match live(current, now) {
        Some(slot) => Decision::new(true, written(Some(slot), slot.value.clone(), slot.version, expiry.into(), now)),
        None => Decision::new(false, Change::Keep),
    }
}

pub(crate) fn increment(
    current: Option<&Slot>,
    by: i64,
    version: Version,
    options: &IncrementOptions,
    now: &Now<'_>,
) -> Decision<Result<i64>> {
    let live = live(current, now);
    let (sum, expiry) = match live {
        Some(slot) => (counter::add(&slot.value, by), Expiry::Keep),
        None => (Ok(by), options.expiry),
    };
    match sum {
        Ok(sum) => {
            let change = written(live, sum.to_string().into(), version, expiry, now);
            Decision::new(Ok(sum), change)
        }
        Err(error) => Decision::new(Err(error), Change::Keep),
    }
}
