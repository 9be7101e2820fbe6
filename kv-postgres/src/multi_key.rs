//! Statements over several keys. Batches of single calls and calls over several keys use these statements.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use kv_core::adapter::Effect;
use kv_core::{DeleteOutcome, Entry, Key, Result, SetOutcome, Version};
use tokio_postgres::types::ToSql;

use crate::codec::{self, Lifetime};
use crate::error::{Failure, read_error};
use crate::get;
use crate::state::{State, column};

/// The maximum number of concurrent statements when the calls of a failed statement are sent one by one.
const MAX_SINGLE_STATEMENTS: usize = 4;

/// Reads the live entries of several keys in one statement. If the server finds a damaged row, reads each key in a
/// separate statement.
pub(crate) async fn get_many(state: &State, keys: &[&Key]) -> Vec<Result<Option<Entry>>> {
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = match state.connections.read(&state.sql.get_many, &[&texts]).await {
        Ok(rows) => rows,
        Err(failure) if failure.is_damaged() && keys.len() > 1 => {
            let single: Vec<BoxFuture<'_, _>> =
                keys.iter().map(|key| Box::pin(get::get(state, key)) as BoxFuture<'_, _>).collect();
            return stream::iter(single).buffered(MAX_SINGLE_STATEMENTS).collect().await;
        }
        Err(failure) => {
            state.value_length.record(None);
            return keys.iter().map(|_| Err(read_error(failure.clone()))).collect();
        }
    };
    let lengths = rows.iter().map(|row| row.try_get::<_, &[u8]>(1).map_or(0, <[u8]>::len));
    state.value_length.record(Some(lengths.max().unwrap_or(0)));
    let found: HashMap<&str, _> = rows.iter().filter_map(|row| Some((row.try_get::<_, &str>(0).ok()?, row))).collect();
    keys.iter().map(|key| found.get(key.as_str()).map(|row| codec::entry(key, row, 1)).transpose()).collect()
}

/// An unconditional write of one key.
#[derive(Debug)]
pub(crate) struct PlainSet {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) lifetime: Lifetime,
}

impl PlainSet {
    pub(crate) fn effect(&self) -> Effect {
        Effect::Write(Some(self.version))
    }

    fn checksum(&self) -> i32 {
        codec::checksum_of(&self.key, self.version.as_bytes(), &self.value)
    }

    /// Writes the key in a separate statement.
    async fn send_alone(&self, state: &State) -> Result<(), Failure> {
        let Self { key, value, version, lifetime: Lifetime { at, millis } } = self;
        let (value, checksum) = (value.as_ref(), self.checksum());
        let params: [&(dyn ToSql + Sync); 6] = [&key.as_str(), &value, &version.as_bytes(), &checksum, at, millis];
        state.connections.write(&state.sql.set, &params).await.map(drop)
    }

    fn outcome(&self, done: Result<(), Failure>) -> Result<SetOutcome> {
        match done {
            Ok(()) => Ok(SetOutcome::Stored { version: Some(self.version), previous: None }),
            Err(failure) => Err(failure.into_error(self.effect())),
        }
    }
}

/// Writes several keys unconditionally. The lifetimes must be either all absolute or all relative.
///
/// If a key occurs several times, only its last write is sent. The earlier writes count as overwritten at once: they
/// have the same result as the last write, each with its own version.
pub(crate) async fn set_many(state: &State, sets: &[&PlainSet]) -> Vec<Result<SetOutcome>> {
    let mut last: HashMap<&Key, usize> = HashMap::with_capacity(sets.len());
    for (index, set) in sets.iter().enumerate() {
        last.insert(&set.key, index);
    }
    let last_sets: Vec<&PlainSet> =
        sets.iter().enumerate().filter(|(index, set)| last.get(&set.key) == Some(index)).map(|(_, set)| *set).collect();
    let outcomes: HashMap<&Key, Result<(), Failure>> = match send_sets(state, &last_sets).await {
        // A single write may have made the server roll back all writes, so send each write in a separate statement.
        Err(failure) if failure.is_rolled_back() && last_sets.len() > 1 => {
            let single: Vec<BoxFuture<'_, _>> =
                last_sets.iter().map(|set| with_key(&set.key, set.send_alone(state))).collect();
            stream::iter(single).buffer_unordered(MAX_SINGLE_STATEMENTS).collect().await
        }
        done => last_sets.iter().map(|set| (&set.key, done.clone())).collect(),
    };
    sets.iter().map(|set| set.outcome(outcomes.get(&set.key).cloned().unwrap_or(Ok(())))).collect()
}

async fn send_sets(state: &State, sets: &[&PlainSet]) -> Result<(), Failure> {
    if let [set] = sets {
        return set.send_alone(state).await;
    }
    let keys: Vec<_> = sets.iter().map(|set| set.key.as_str()).collect();
    let values: Vec<_> = sets.iter().map(|set| set.value.as_ref()).collect();
    let versions: Vec<_> = sets.iter().map(|set| set.version.as_bytes()).collect();
    let checksums: Vec<_> = sets.iter().map(|set| set.checksum()).collect();
    if sets.iter().any(|set| set.lifetime.at.is_some()) {
        let moments: Vec<Option<SystemTime>> = sets.iter().map(|set| set.lifetime.at).collect();
        let params: [&(dyn ToSql + Sync); 5] = [&keys, &values, &versions, &checksums, &moments];
        return state.connections.write(&state.sql.set_absolute, &params).await.map(drop);
    }
    let millis: Vec<Option<i64>> = sets.iter().map(|set| set.lifetime.millis).collect();
    let params: [&(dyn ToSql + Sync); 5] = [&keys, &values, &versions, &checksums, &millis];
    state.connections.write(&state.sql.set_relative, &params).await.map(drop)
}

/// Removes several keys unconditionally. If a key occurs several times, its first delete removes the entry.
pub(crate) async fn delete_many(state: &State, keys: &[&Key]) -> Vec<Result<DeleteOutcome>> {
    let mut outcomes = match send_deletes(state, keys).await {
        Err(failure) if failure.is_rolled_back() && keys.len() > 1 => {
            let distinct: HashSet<&Key> = keys.iter().copied().collect();
            let single: Vec<BoxFuture<'_, _>> =
                distinct.into_iter().map(|key| with_key(key, send_delete(state, key))).collect();
            stream::iter(single).buffer_unordered(MAX_SINGLE_STATEMENTS).collect().await
        }
        Err(failure) => keys.iter().map(|key| (*key, Err(failure.clone()))).collect(),
        Ok(outcomes) => outcomes,
    };
    keys.iter()
        .map(|key| match outcomes.get_mut(key) {
            Some(Ok(was_live)) => Ok(if std::mem::take(was_live) {
                DeleteOutcome::Deleted { previous: None }
            } else {
                DeleteOutcome::Missing
            }),
            Some(Err(failure)) => Err(failure.clone().into_error(Effect::Write(None))),
            None => Ok(DeleteOutcome::Missing),
        })
        .collect()
}

/// The results of deletes by key: true if a live entry was removed.
type Deleted<'k> = HashMap<&'k Key, Result<bool, Failure>>;

async fn send_deletes<'k>(state: &State, keys: &[&'k Key]) -> Result<Deleted<'k>, Failure> {
    if let [key] = keys {
        return Ok(HashMap::from([(*key, Ok(send_delete(state, key).await?))]));
    }
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = state.connections.write(&state.sql.delete_many, &[&texts]).await?;
    let by_text: HashMap<&str, &'k Key> = keys.iter().map(|key| (key.as_str(), *key)).collect();
    let mut outcomes = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (Ok(text), Ok(was_live)) = (row.try_get::<_, &str>(0), row.try_get::<_, bool>(1)) else {
            return Err(Failure::UnexpectedShape);
        };
        if let Some(key) = by_text.get(text) {
            outcomes.insert(*key, Ok(was_live));
        }
    }
    Ok(outcomes)
}

async fn send_delete(state: &State, key: &Key) -> Result<bool, Failure> {
    let rows = state.connections.write(&state.sql.delete, &[&key.as_str(), &false]).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0).map_err(|_| Failure::UnexpectedShape))
}

/// Runs a call, and returns its key and its result.
fn with_key<'f, T>(
    key: &'f Key,
    call: impl Future<Output = Result<T, Failure>> + Send + 'f,
) -> BoxFuture<'f, (&'f Key, Result<T, Failure>)> {
    Box::pin(async move { (key, call.await) })
}
