//! Writes of a single key.
//!
//! A conditional write checks its condition and writes in one statement.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kv_core::adapter::Effect;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expires, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions,
    SetOutcome, Version, When, counter,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::coalesce::{BatchedCall, Batcher};
use crate::codec::{self, Lifetime};
use crate::get::get;
use crate::multi_key::{self, PlainSet};
use crate::state::{State, column};
use crate::statement::Condition;

/// The maximum number of attempts of a write whose entry another writer changes during each attempt.
const MAX_ATTEMPTS: usize = 200;

type Parameters<'p> = Vec<&'p (dyn ToSql + Sync)>;

/// The result of a conditional statement.
enum Attempt {
    /// The statement wrote. The field is the removed entry, if the caller requested the entry.
    Done(Option<Entry>),
    /// The statement did not write. The field is the live entry that the statement found.
    Refused(Option<Entry>),
}

/// The state of a key in which a set writes.
#[derive(Clone, Copy)]
enum Expected<'e> {
    When(&'e When),
    /// The entry has the version and the deadline of this entry.
    Unchanged(&'e Entry),
}

impl BatchedCall for PlainSet {
    type Response = SetOutcome;
    // The number is one: a flush takes as long for many writes as for a few, so a second statement would only make the
    // batches smaller.
    const MAX_FAST_STATEMENTS: usize = 1;

    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.value.len()
    }

    fn effect(&self) -> Effect {
        self.effect()
    }

    fn send(state: Arc<State>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<SetOutcome>>> {
        Box::pin(async move {
            let calls: Vec<_> = calls.iter().collect();
            multi_key::set_many(&state, &calls).await
        })
    }
}

/// An unconditional delete of one key that can share a statement with other deletes.
#[derive(Debug)]
pub(crate) struct Delete(Key);

impl BatchedCall for Delete {
    type Response = DeleteOutcome;
    // The number is one, for the same reason as for sets.
    const MAX_FAST_STATEMENTS: usize = 1;

    fn bytes(&self) -> usize {
        self.0.as_str().len()
    }

    fn effect(&self) -> Effect {
        Effect::Write(None)
    }

    fn send(state: Arc<State>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<DeleteOutcome>>> {
        Box::pin(async move {
            let keys: Vec<_> = calls.iter().map(|Self(key)| key).collect();
            multi_key::delete_many(&state, &keys).await
        })
    }
}

/// A write of one key with any options.
#[derive(Debug)]
pub(crate) struct SingleSet {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) options: SetOptions,
}

/// Writes a key, as a part of a batch if the options allow it.
pub(crate) async fn set(state: &State, sets: &Arc<Batcher<PlainSet>>, set: SingleSet) -> Result<SetOutcome> {
    match plain_lifetime(&set.options) {
        Some(lifetime) if !matches!(set.options.expiry, Expiry::At(_)) => {
            let SingleSet { key, value, version, options: _ } = set;
            sets.call(PlainSet { key, value, version, lifetime }).await
        }
        _ => set.send(state).await,
    }
}

/// Returns the lifetime of an unconditional write, or `None` if the write needs a separate statement.
pub(crate) fn plain_lifetime(options: &SetOptions) -> Option<Lifetime> {
    match (&options.when, options.return_previous) {
        (When::Always, false) => Lifetime::new(options.expiry),
        _ => None,
    }
}

impl SingleSet {
    /// Writes the key in a separate statement.
    pub(crate) async fn send(&self, state: &State) -> Result<SetOutcome> {
        let stored = |previous| SetOutcome::Stored { version: Some(self.version), previous };
        let SetOptions { when, return_previous, .. } = &self.options;
        for _ in 0..MAX_ATTEMPTS {
            // Reads the entry, and then writes on the condition that the entry is unchanged. Therefore no other write
            // and no touch can come between the read and the write.
            if *return_previous {
                let current = get(state, &self.key).await?;
                if !when.holds(current.as_ref()) {
                    return Ok(SetOutcome::Refused { current });
                }
                let unchanged = current.as_ref().map_or(Expected::When(&When::Absent), Expected::Unchanged);
                if let Attempt::Done(_) = self.attempt(state, unchanged).await? {
                    return Ok(stored(current));
                }
                continue;
            }
            match self.attempt(state, Expected::When(when)).await? {
                Attempt::Done(_) => return Ok(stored(None)),
                Attempt::Refused(current) if !when.holds(current.as_ref()) => {
                    return Ok(SetOutcome::Refused { current });
                }
                // The condition holds for the entry that the statement returned, because the entry changed during the
                // statement. Try again.
                Attempt::Refused(_) => {}
            }
        }
        Err(contended())
    }

    /// Sends the statement once.
    async fn attempt(&self, state: &State, expected: Expected<'_>) -> Result<Attempt> {
        let Self { key, value, version, options } = self;
        let lifetime = Lifetime::new(options.expiry);
        let Lifetime { at, millis } = lifetime.unwrap_or(Lifetime::NEVER);
        let (text, bytes) = (key.as_str(), value.as_ref());
        let checksum = codec::checksum_of(key, version.as_bytes(), value);
        let effect = Effect::Write(Some(*version));
        let version = version.as_bytes();
        let mut params: Parameters<'_> = vec![&text, &bytes, &version, &checksum];
        let expiry: Parameters<'_> = vec![&at, &millis];
        let keeps_deadline = lifetime.is_none();
        let (bytes_now, deadline_now): (&[u8], Option<SystemTime>);
        let sql = match expected {
            Expected::When(When::Always) if keeps_deadline => &state.sql.set_keep,
            Expected::When(When::Always) => {
                params.extend(expiry);
                &state.sql.set
            }
            // An absent entry has no deadline to keep.
            Expected::When(When::Absent) => {
                params.extend(expiry);
                &state.sql.set_absent
            }
            Expected::Unchanged(entry) => {
                if !keeps_deadline {
                    params.extend(expiry);
                }
                bytes_now = entry.version.as_ref().map_or(&[], Version::as_bytes);
                deadline_now = match entry.expires {
                    Expires::At(moment) => Some(moment),
                    _ => None,
                };
                params.extend([&bytes_now as &(dyn ToSql + Sync), &deadline_now]);
                state.sql.set_unchanged(keeps_deadline)
            }
            Expected::When(when) => {
                if !keeps_deadline {
                    params.extend(expiry);
                }
                let condition = match when {
                    When::Version(version) => {
                        bytes_now = version.as_bytes();
                        params.push(&bytes_now);
                        Condition::Version
                    }
                    When::Value(value) => {
                        bytes_now = value.as_ref();
                        params.push(&bytes_now);
                        Condition::Value
                    }
                    _ => Condition::Present,
                };
                state.sql.set_if(condition, keeps_deadline)
            }
        };
        let rows = state.write(sql, &params, effect).await?;
        match rows.first() {
            // Unconditional statements return no row.
            None => Ok(Attempt::Done(None)),
            Some(row) if column(row, 0)? => Ok(Attempt::Done(None)),
            Some(row) => Ok(Attempt::Refused(current(key, row)?)),
        }
    }
}

/// Returns the entry in the row of a conditional statement, if there is a live entry.
fn current(key: &Key, row: &Row) -> Result<Option<Entry>> {
    let version: Option<&[u8]> = column(row, 2)?;
    version.map(|_| codec::entry(key, row, 1)).transpose()
}

/// Removes a key, as a part of a batch if the options allow it.
pub(crate) async fn delete(
    state: &State,
    deletes: &Arc<Batcher<Delete>>,
    key: Key,
    options: &DeleteOptions,
) -> Result<DeleteOutcome> {
    if *options == DeleteOptions::default() {
        return deletes.call(Delete(key)).await;
    }
    let key = &key;
    let DeleteOptions { when, return_previous, .. } = options;
    for _ in 0..MAX_ATTEMPTS {
        let attempt = match when {
            // If the condition holds, there is no entry to remove.
            When::Absent => match get(state, key).await? {
                None => return Ok(DeleteOutcome::Missing),
                current => return Ok(DeleteOutcome::Refused { current }),
            },
            When::Always => match remove(state, key, *return_previous).await? {
                Some(previous) => return Ok(DeleteOutcome::Deleted { previous }),
                None => return Ok(DeleteOutcome::Missing),
            },
            When::Version(version) => {
                let expected = version.as_bytes();
                remove_if(state, key, *return_previous, Condition::Version, &[&expected]).await?
            }
            When::Value(value) => {
                let expected = value.as_ref();
                remove_if(state, key, *return_previous, Condition::Value, &[&expected]).await?
            }
            _ => remove_if(state, key, *return_previous, Condition::Present, &[]).await?,
        };
        match attempt {
            Attempt::Done(previous) => return Ok(DeleteOutcome::Deleted { previous }),
            Attempt::Refused(current) if !when.holds(current.as_ref()) => {
                return Ok(DeleteOutcome::Refused { current });
            }
            Attempt::Refused(_) => {}
        }
    }
    Err(contended())
}

/// Removes an entry, and returns the entry if `return_previous`. The outer `None` means that there was no live entry.
async fn remove(state: &State, key: &Key, return_previous: bool) -> Result<Option<Option<Entry>>> {
    let rows = state.write(&state.sql.delete, &[&key.as_str(), &return_previous], Effect::Write(None)).await?;
    match rows.first() {
        Some(row) if column(row, 0)? => Ok(Some(previous(key, row, return_previous))),
        _ => Ok(None),
    }
}

/// Returns the removed entry, if the caller requested it and it is not damaged. A damaged entry is not an error here,
/// because the error would hide that the entry was removed.
fn previous(key: &Key, row: &Row, return_previous: bool) -> Option<Entry> {
    return_previous.then(|| codec::entry(key, row, 1).ok()).flatten()
}

/// Removes an entry if the condition holds.
async fn remove_if(
    state: &State,
    key: &Key,
    return_previous: bool,
    condition: Condition,
    expected: &[&(dyn ToSql + Sync)],
) -> Result<Attempt> {
    let text = key.as_str();
    let mut params: Parameters<'_> = vec![&text, &return_previous];
    params.extend(expected);
    let rows = state.write(state.sql.delete_if(condition), &params, Effect::Write(None)).await?;
    match rows.first() {
        None => Ok(Attempt::Refused(None)),
        Some(row) if column(row, 0)? => Ok(Attempt::Done(previous(key, row, return_previous))),
        Some(row) => Ok(Attempt::Refused(Some(codec::entry(key, row, 1)?))),
    }
}

/// Sets the deadline of a live entry. Returns `false` if there is no live entry.
pub(crate) async fn touch(state: &State, key: &Key, expiry: NewExpiry) -> Result<bool> {
    let Lifetime { at, millis } = Lifetime::new(Expiry::from(expiry)).unwrap_or(Lifetime::NEVER);
    let rows = state.write(&state.sql.touch, &[&key.as_str(), &at, &millis], Effect::Write(None)).await?;
    Ok(!rows.is_empty())
}

/// Adds to a counter and returns the sum.
pub(crate) async fn increment(
    state: &State,
    key: &Key,
    by: i64,
    options: &IncrementOptions,
    version: Version,
) -> Result<i64> {
    let Lifetime { at, millis } = Lifetime::new(options.expiry).unwrap_or(Lifetime::NEVER);
    let checksum = i64::from(codec::checksum_before(key, version.as_bytes()));
    let effect = Effect::Write(Some(version));
    for _ in 0..MAX_ATTEMPTS {
        let text = key.as_str();
        let params: [&(dyn ToSql + Sync); 6] = [&text, &by, &version.as_bytes(), &checksum, &at, &millis];
        let rows = state.write(&state.sql.increment, &params, effect).await?;
        if let Some(row) = rows.first() {
            return column(row, 0);
        }
        // No row means that the value is not a counter or the sum overflows. `add` returns this error. If `add` returns
        // no error, the entry has changed since the statement, so try again.
        if let Some(entry) = get(state, key).await? {
            counter::add(&entry.value, by)?;
        }
    }
    Err(contended())
}

fn contended() -> Error {
    Error::unavailable("other writers changed the key in every attempt")
}
