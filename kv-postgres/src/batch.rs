//! Statements over many keys: what lanes put together, and what callers ask for at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use kv_core::{DeleteOutcome, Entry, Key, Result, SetOutcome, Version};

use crate::codec::{self, Lifetime};
use crate::error::{Effect, Fault};
use crate::lane::{Call, Lane};
use crate::state::{Core, column};

/// How many members of a statement that failed are sent by themselves at a time.
const ALONE: usize = 4;

/// What comes of a call, beside its key.
fn alone<'f, T>(
    key: &'f Key,
    call: impl Future<Output = Result<T, Fault>> + Send + 'f,
) -> BoxFuture<'f, (&'f Key, Result<T, Fault>)> {
    Box::pin(async move { (key, call.await) })
}

/// Reads one key, whose value is about so long.
#[derive(Debug)]
pub(crate) struct Get {
    pub(crate) key: Key,
    pub(crate) expected: usize,
}

impl Call for Get {
    type Answer = Option<Entry>;
    // Two processes of the server read side by side.
    const FLIGHTS: usize = 2;

    fn lane(core: &Core) -> &Lane<Self> {
        &core.gets
    }

    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.expected
    }

    fn effect(&self) -> Effect {
        Effect::None
    }

    fn send(core: Arc<Core>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<Option<Entry>>>> {
        Box::pin(async move {
            if let [Self { key, .. }] = calls.as_slice() {
                return vec![get(&core, key).await];
            }
            let keys: Vec<_> = calls.iter().map(|Self { key, .. }| key).collect();
            get_many(&core, &keys).await
        })
    }
}

/// The live entry of a key.
pub(crate) async fn get(core: &Core, key: &Key) -> Result<Option<Entry>> {
    let rows = core.read(&core.sql.get, &[&key.as_str()]).await?;
    rows.first().map(|row| codec::entry(key, row, 0)).transpose()
}

/// The live entries of several keys, in one statement.
pub(crate) async fn get_many(core: &Core, keys: &[&Key]) -> Vec<Result<Option<Entry>>> {
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = match core.links.read(&core.sql.get_many, &[&texts]).await {
        Ok(rows) => rows,
        Err(fault) => {
            core.answers.came(None);
            return keys.iter().map(|_| Err(fault.clone().into_error(Effect::None))).collect();
        }
    };
    let lengths = rows.iter().map(|row| row.try_get::<_, &[u8]>(1).map_or(0, <[u8]>::len));
    core.answers.came(Some(lengths.max().unwrap_or(0)));
    let found: HashMap<&str, _> = rows.iter().filter_map(|row| Some((row.try_get::<_, &str>(0).ok()?, row))).collect();
    keys.iter().map(|key| found.get(key.as_str()).map(|row| codec::entry(key, row, 1)).transpose()).collect()
}

/// Writes one key, whatever is there.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) lifetime: Lifetime,
}

impl Set {
    fn checksum(&self) -> i32 {
        codec::checksum_of(&self.key, self.version.as_bytes(), &self.value)
    }

    async fn send_alone(&self, core: &Core) -> Result<(), Fault> {
        let Self { key, value, version, lifetime: Lifetime { at, millis } } = self;
        let (value, checksum) = (value.as_ref(), self.checksum());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&key.as_str(), &value, &version.as_bytes(), &checksum, at, millis];
        core.links.call(&core.sql.set, &params).await.map(drop)
    }

    fn outcome(&self, done: Result<(), Fault>) -> Result<SetOutcome> {
        match done {
            Ok(()) => Ok(SetOutcome::Stored { version: Some(self.version), previous: None }),
            Err(fault) => Err(fault.into_error(self.effect())),
        }
    }
}

impl Call for Set {
    type Answer = SetOutcome;
    // The disk takes as long for many as for few: a second statement would halve both.
    const FLIGHTS: usize = 1;

    fn lane(core: &Core) -> &Lane<Self> {
        &core.sets
    }

    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.value.len()
    }

    fn effect(&self) -> Effect {
        Effect::Write(Some(self.version))
    }

    fn send(core: Arc<Core>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<SetOutcome>>> {
        Box::pin(async move {
            let calls: Vec<_> = calls.iter().collect();
            set_many(&core, &calls).await
        })
    }
}

/// Writes several keys, whatever is there. All lifetimes are moments, or none is. Of writes of one key the last stays; those
/// before it have been, for no time, and each keeps the version that it was given.
pub(crate) async fn set_many(core: &Core, sets: &[&Set]) -> Vec<Result<SetOutcome>> {
    let mut last: HashMap<&Key, usize> = HashMap::with_capacity(sets.len());
    for (at, set) in sets.iter().enumerate() {
        last.insert(&set.key, at);
    }
    let kept: Vec<&Set> =
        sets.iter().enumerate().filter(|(at, set)| last.get(&set.key) == Some(at)).map(|(_, set)| *set).collect();
    let outcomes: HashMap<&Key, Result<(), Fault>> = match send_sets(core, &kept).await {
        // The server undid all of it for the sake of one, so each is sent by itself.
        Err(fault) if fault.is_answered() && kept.len() > 1 => {
            let alone: Vec<BoxFuture<'_, _>> = kept.iter().map(|set| alone(&set.key, set.send_alone(core))).collect();
            stream::iter(alone).buffer_unordered(ALONE).collect().await
        }
        done => kept.iter().map(|set| (&set.key, done.clone())).collect(),
    };
    sets.iter().map(|set| set.outcome(outcomes.get(&set.key).cloned().unwrap_or(Ok(())))).collect()
}

async fn send_sets(core: &Core, sets: &[&Set]) -> Result<(), Fault> {
    if let [set] = sets {
        return set.send_alone(core).await;
    }
    let keys: Vec<_> = sets.iter().map(|set| set.key.as_str()).collect();
    let values: Vec<_> = sets.iter().map(|set| set.value.as_ref()).collect();
    let versions: Vec<_> = sets.iter().map(|set| set.version.as_bytes()).collect();
    let checksums: Vec<_> = sets.iter().map(|set| set.checksum()).collect();
    if sets.iter().any(|set| set.lifetime.at.is_some()) {
        let moments: Vec<Option<SystemTime>> = sets.iter().map(|set| set.lifetime.at).collect();
        return core
            .links
            .call(&core.sql.set_absolute, &[&keys, &values, &versions, &checksums, &moments])
            .await
            .map(drop);
    }
    let millis: Vec<Option<i64>> = sets.iter().map(|set| set.lifetime.millis).collect();
    core.links.call(&core.sql.set_relative, &[&keys, &values, &versions, &checksums, &millis]).await.map(drop)
}

/// Removes one key, whatever is there.
#[derive(Debug)]
pub(crate) struct Delete(pub(crate) Key);

impl Call for Delete {
    type Answer = DeleteOutcome;
    // As for sets.
    const FLIGHTS: usize = 1;

    fn lane(core: &Core) -> &Lane<Self> {
        &core.deletes
    }

    fn bytes(&self) -> usize {
        self.0.as_str().len()
    }

    fn effect(&self) -> Effect {
        Effect::Write(None)
    }

    fn send(core: Arc<Core>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<DeleteOutcome>>> {
        Box::pin(async move {
            let keys: Vec<_> = calls.iter().map(|Self(key)| key).collect();
            delete_many(&core, &keys).await
        })
    }
}

/// Removes several keys, whatever is there. Of deletes of one key the first removes it.
pub(crate) async fn delete_many(core: &Core, keys: &[&Key]) -> Vec<Result<DeleteOutcome>> {
    let mut outcomes = match send_deletes(core, keys).await {
        Err(fault) if fault.is_answered() && keys.len() > 1 => {
            let distinct: HashSet<&Key> = keys.iter().copied().collect();
            let alone: Vec<BoxFuture<'_, _>> =
                distinct.into_iter().map(|key| alone(key, send_delete(core, key))).collect();
            stream::iter(alone).buffer_unordered(ALONE).collect().await
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

type Deleted<'k> = HashMap<&'k Key, Result<bool, Fault>>;

async fn send_deletes<'k>(core: &Core, keys: &[&'k Key]) -> Result<Deleted<'k>, Fault> {
    if let [key] = keys {
        return Ok(HashMap::from([(*key, Ok(send_delete(core, key).await?))]));
    }
    let texts: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
    let rows = core.links.call(&core.sql.delete_many, &[&texts]).await?;
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

async fn send_delete(core: &Core, key: &Key) -> Result<bool, Fault> {
    let rows = core.links.call(&core.sql.delete, &[&key.as_str(), &false]).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0).map_err(|_| Fault::Shape))
}
