//! Writes of one key that look at what is there: each is judged and done in one statement.

use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions,
    SetOutcome, Version, When, counter,
};
use tokio_postgres::types::ToSql;

use crate::batch;
use crate::codec::{self, Lifetime};
use crate::error::Effect;
use crate::state::{Core, column};
use crate::statement::Over;

/// A write that was refused over an entry that is not there any more is tried again, so often.
const TRIES: usize = 200;

type Parameters<'p> = Vec<&'p (dyn ToSql + Sync)>;

/// What came of a conditional statement.
enum Judged {
    Done(Option<Entry>),
    /// It was not done, and this is what was there when it began.
    Refused(Option<Entry>),
}

/// A set that a lane cannot carry.
#[derive(Debug)]
pub(crate) struct SetAlone {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) options: SetOptions,
}

impl SetAlone {
    pub(crate) fn effect(&self) -> Effect {
        Effect::Write(Some(self.version))
    }

    pub(crate) async fn send(&self, core: &Core) -> Result<SetOutcome> {
        let stored = |previous| SetOutcome::Stored { version: Some(self.version), previous };
        let SetOptions { when, return_previous, .. } = &self.options;
        for _ in 0..TRIES {
            // The entry that was there and the write over exactly it: nothing came between where both succeed.
            if *return_previous {
                let current = batch::get(core, &self.key).await?;
                if !when.holds(current.as_ref()) {
                    return Ok(SetOutcome::Refused { current });
                }
                let same =
                    current.as_ref().map_or(When::Absent, |entry| entry.version.map_or(When::Present, When::Version));
                if let Judged::Done(_) = self.judge(core, &same).await? {
                    return Ok(stored(current));
                }
                continue;
            }
            match self.judge(core, when).await? {
                Judged::Done(_) => return Ok(stored(None)),
                Judged::Refused(current) if !when.holds(current.as_ref()) => {
                    return Ok(SetOutcome::Refused { current });
                }
                // What was in the way has gone meanwhile.
                Judged::Refused(_) => {}
            }
        }
        Err(contended())
    }

    async fn judge(&self, core: &Core, when: &When) -> Result<Judged> {
        let Self { key, value, version, options } = self;
        let lifetime = Lifetime::new(options.expiry);
        let Lifetime { at, millis } = lifetime.unwrap_or(Lifetime::NEVER);
        let (text, bytes) = (key.as_str(), value.as_ref());
        let checksum = codec::checksum_of(key, version.as_bytes(), value);
        let version = version.as_bytes();
        let mut params: Parameters<'_> = vec![&text, &bytes, &version, &checksum];
        let expiry: Parameters<'_> = vec![&at, &millis];
        let keeps = lifetime.is_none();
        let expected: &[u8];
        let sql = match when {
            When::Always if keeps => &core.sql.set_keep,
            When::Always => {
                params.extend(expiry);
                &core.sql.set
            }
            // Where nothing is there, there is no deadline to keep.
            When::Absent => {
                params.extend(expiry);
                &core.sql.set_absent
            }
            _ => {
                if !keeps {
                    params.extend(expiry);
                }
                let over = match when {
                    When::Version(version) => {
                        expected = version.as_bytes();
                        params.push(&expected);
                        Over::Version
                    }
                    When::Value(value) => {
                        expected = value.as_ref();
                        params.push(&expected);
                        Over::Value
                    }
                    _ => Over::Present,
                };
                core.sql.set_over(over, keeps)
            }
        };
        let rows = core.write(sql, &params, self.effect()).await?;
        match rows.first() {
            // The statements without condition give no row.
            None => Ok(Judged::Done(None)),
            Some(row) if column(row, 0)? => Ok(Judged::Done(None)),
            Some(row) => Ok(Judged::Refused(current(key, row)?)),
        }
    }
}

/// The entry beside the answer of a conditional statement, where there is one.
fn current(key: &Key, row: &tokio_postgres::Row) -> Result<Option<Entry>> {
    let version: Option<&[u8]> = column(row, 2)?;
    version.map(|_| codec::entry(key, row, 1)).transpose()
}

/// A delete that a lane cannot carry.
pub(crate) async fn delete(core: &Core, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
    let DeleteOptions { when, return_previous, .. } = options;
    for _ in 0..TRIES {
        let judged = match when {
            // Nothing is there to be removed where the condition holds.
            When::Absent => match batch::get(core, key).await? {
                None => return Ok(DeleteOutcome::Missing),
                current => return Ok(DeleteOutcome::Refused { current }),
            },
            When::Always => match remove(core, key, *return_previous).await? {
                Some(previous) => return Ok(DeleteOutcome::Deleted { previous }),
                None => return Ok(DeleteOutcome::Missing),
            },
            When::Version(version) => {
                let expected = version.as_bytes();
                remove_over(core, key, *return_previous, Over::Version, &[&expected]).await?
            }
            When::Value(value) => {
                let expected = value.as_ref();
                remove_over(core, key, *return_previous, Over::Value, &[&expected]).await?
            }
            _ => remove_over(core, key, *return_previous, Over::Present, &[]).await?,
        };
        match judged {
            Judged::Done(previous) => return Ok(DeleteOutcome::Deleted { previous }),
            Judged::Refused(current) if !when.holds(current.as_ref()) => return Ok(DeleteOutcome::Refused { current }),
            Judged::Refused(_) => {}
        }
    }
    Err(contended())
}

/// Removes what is there; `None` where that was nothing, or expired.
async fn remove(core: &Core, key: &Key, wants_previous: bool) -> Result<Option<Option<Entry>>> {
    let rows = core.write(&core.sql.delete, &[&key.as_str(), &wants_previous], Effect::Write(None)).await?;
    match rows.first() {
        Some(row) if column(row, 0)? => Ok(Some(previous(key, row, wants_previous))),
        _ => Ok(None),
    }
}

/// What was removed, where it is asked for and can be read: it is gone by now, which no error may hide.
fn previous(key: &Key, row: &tokio_postgres::Row, is_wanted: bool) -> Option<Entry> {
    is_wanted.then(|| codec::entry(key, row, 1).ok()).flatten()
}

async fn remove_over(
    core: &Core,
    key: &Key,
    wants_previous: bool,
    over: Over,
    expected: &[&(dyn ToSql + Sync)],
) -> Result<Judged> {
    let text = key.as_str();
    let mut params: Parameters<'_> = vec![&text, &wants_previous];
    params.extend(expected);
    let rows = core.write(core.sql.delete_over(over), &params, Effect::Write(None)).await?;
    match rows.first() {
        None => Ok(Judged::Refused(None)),
        Some(row) if column(row, 0)? => Ok(Judged::Done(previous(key, row, wants_previous))),
        Some(row) => Ok(Judged::Refused(Some(codec::entry(key, row, 1)?))),
    }
}

/// Moves a deadline.
pub(crate) async fn touch(core: &Core, key: &Key, expiry: NewExpiry) -> Result<bool> {
    let Lifetime { at, millis } = Lifetime::new(Expiry::from(expiry)).unwrap_or(Lifetime::NEVER);
    let rows = core.write(&core.sql.touch, &[&key.as_str(), &at, &millis], Effect::Write(None)).await?;
    Ok(!rows.is_empty())
}

/// Counts.
pub(crate) async fn increment(
    core: &Core,
    key: &Key,
    by: i64,
    options: &IncrementOptions,
    version: Version,
) -> Result<i64> {
    let Lifetime { at, millis } = Lifetime::new(options.expiry).unwrap_or(Lifetime::NEVER);
    let state = i64::from(codec::checksum_before(key, version.as_bytes()));
    for _ in 0..TRIES {
        let rows = core
            .write(
                &core.sql.increment,
                &[&key.as_str(), &by, &version.as_bytes(), &state, &at, &millis],
                Effect::Write(Some(version)),
            )
            .await?;
        if let Some(row) = rows.first() {
            return column(row, 0);
        }
        // Not done: what is there is no counter, or the sum does not fit, unless that has changed meanwhile.
        if let Some(entry) = batch::get(core, key).await? {
            counter::add(&entry.value, by)?;
        }
    }
    Err(contended())
}

/// Whether the key has a live entry.
pub(crate) async fn contains(core: &Core, key: &Key) -> Result<bool> {
    Ok(!core.read(&core.sql.contains, &[&key.as_str()]).await?.is_empty())
}

fn contended() -> Error {
    Error::unavailable("the key is written by others again and again")
}
