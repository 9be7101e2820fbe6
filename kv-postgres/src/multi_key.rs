//! Statements over several keys: the batches of single calls, and the chunks of calls over several keys.

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
use crate::error::Fault;
use crate::state::{State, column};

/// Concurrent statements when the members of a failed statement are sent one by one.
const MAX_SINGLE_STATEMENTS: usize = 4;

/// Reads the live entries of several keys in one statement.
pub(crate) async fn get_many(state: &State, keys: &[&Key]) -> Vec<Result<Option<Entry>>> {
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = match state.connections.read(&state.sql.get_many, &[&texts]).await {
        Ok(rows) => rows,
        Err(fault) => {
            state.value_length.record(None);
            return keys.iter().map(|_| Err(fault.clone().into_error(Effect::Read))).collect();
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

    async fn send_alone(&self, state: &State) -> Result<(), Fault> {
        let Self { key, value, version, lifetime: Lifetime { at, millis } } = self;
        let (value, checksum) = (value.as_ref(), self.checksum());
        let params: [&(dyn ToSql + Sync); 6] = [&key.as_str(), &value, &version.as_bytes(), &checksum, at, millis];
        state.connections.write(&state.sql.set, &params).await.map(drop)
    }

    fn outcome(&self, done: Result<(), Fault>) -> Result<SetOutcome> {
        match done {
            Ok(()) => Ok(SetOutcome::Stored { version: Some(self.version), previous: None }),
            Err(fault) => Err(fault.into_error(self.effect())),
        }
    }
}

/// Writes several keys unconditionally. The lifetimes must be either all absolute or all relative.
///
/// Of several writes of one key only the last is sent. The earlier ones count as overwritten at once, and each returns
/// its own version.
pub(crate) async fn set_many(state: &State, sets: &[&PlainSet]) -> Vec<Result<SetOutcome>> {
    let mut last: HashMap<&Key, usize> = HashMap::with_capacity(sets.len());
    for (index, set) in sets.iter().enumerate() {
        last.insert(&set.key, index);
    }
    let kept: Vec<&PlainSet> =
        sets.iter().enumerate().filter(|(index, set)| last.get(&set.key) == Some(index)).map(|(_, set)| *set).collect();
    let outcomes: HashMap<&Key, Result<(), Fault>> = match send_sets(state, &kept).await {
        // One member may have made the server roll back all of them, so send each on its own.
        Err(fault) if fault.is_answered() && kept.len() > 1 => {
            let single: Vec<BoxFuture<'_, _>> =
                kept.iter().map(|set| with_key(&set.key, set.send_alone(state))).collect();
            stream::iter(single).buffer_unordered(MAX_SINGLE_STATEMENTS).collect().await
        }
        done => kept.iter().map(|set| (&set.key, done.clone())).collect(),
    };
    sets.iter().map(|set| set.outcome(outcomes.get(&set.key).cloned().unwrap_or(Ok(())))).collect()
}

async fn send_sets(state: &State, sets: &[&PlainSet]) -> Result<(), Fault> {
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

/// Removes several keys unconditionally. Of several deletes of one key the first removes it.
pub(crate) async fn delete_many(state: &State, keys: &[&Key]) -> Vec<Result<DeleteOutcome>> {
    let mut outcomes = match send_deletes(state, keys).await {
        Err(fault) if fault.is_answered() && keys.len() > 1 => {
            let distinct: HashSet<&Key> = keys.iter().copied().collect();
            let single: Vec<BoxFuture<'_, _>> =
                distinct.into_iter().map(|key| with_key(key, send_delete(state, key))).collect();
            stream::iter(single).buffer_unordered(MAX_SINGLE_STATEMENTS).collect().await
        }
        Err(fault) => keys.iter().map(|key| (*key, Err(fault.clone()))).collect(),
        Ok(outcomes) => outcomes,
    };
    keys.iter()
        .map(|key| match outcomes.get_mut(key) {
            Some(Ok(was_live)) => Ok(if std::mem::take(was_live) {
                DeleteOutcome::Deleted { previous: None }
            } else {
                DeleteOutcome::Missing
            }),
            Some(Err(fault)) => Err(fault.clone().into_error(Effect::Write(None))),
            None => Ok(DeleteOutcome::Missing),
        })
        .collect()
}

/// For each removed key, true if its entry was live.
type Deleted<'k> = HashMap<&'k Key, Result<bool, Fault>>;

async fn send_deletes<'k>(state: &State, keys: &[&'k Key]) -> Result<Deleted<'k>, Fault> {
    if let [key] = keys {
        return Ok(HashMap::from([(*key, Ok(send_delete(state, key).await?))]));
    }
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = state.connections.write(&state.sql.delete_many, &[&texts]).await?;
    let by_text: HashMap<&str, &'k Key> = keys.iter().map(|key| (key.as_str(), *key)).collect();
    let mut outcomes = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (Ok(text), Ok(was_live)) = (row.try_get::<_, &str>(0), row.try_get::<_, bool>(1)) else {
            return Err(Fault::Shape);
        };
        if let Some(key) = by_text.get(text) {
            outcomes.insert(*key, Ok(was_live));
        }
    }
    Ok(outcomes)
}

async fn send_delete(state: &State, key: &Key) -> Result<bool, Fault> {
    let rows = state.connections.write(&state.sql.delete, &[&key.as_str(), &false]).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0).map_err(|_| Fault::Shape))
}

/// Adds the key of a call to its result.
fn with_key<'f, T>(
    key: &'f Key,
    call: impl Future<Output = Result<T, Fault>> + Send + 'f,
) -> BoxFuture<'f, (&'f Key, Result<T, Fault>)> {
    Box::pin(async move { (key, call.await) })
}
