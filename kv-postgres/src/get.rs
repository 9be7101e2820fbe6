//! Reads of a single key.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use kv_core::adapter::Effect;
use kv_core::{Entry, Error, GetOutcome, Key, Moment, Result, Version};

use crate::coalesce::BatchedCall;
use crate::state::{State, column};
use crate::statement::Sql;
use crate::{codec, multi_key};

/// A read of one key that can share a statement with other reads.
#[derive(Debug)]
pub(crate) struct Get {
    key: Key,
    /// The expected length of the value, in bytes.
    expected_length: usize,
}

impl Get {
    pub(crate) fn new(key: Key, state: &State) -> Self {
        Self { key, expected_length: state.value_length.expected() }
    }
}

impl BatchedCall for Get {
    type Response = Option<Entry>;
    // The number is two, because two processes of the server read in parallel.
    const MAX_FAST_STATEMENTS: usize = 2;

    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.expected_length
    }

    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn send(state: Arc<State>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<Option<Entry>>>> {
        Box::pin(async move {
            if let [Self { key, .. }] = calls.as_slice() {
                return vec![get(&state, key).await];
            }
            let keys: Vec<_> = calls.iter().map(|Self { key, .. }| key).collect();
            multi_key::get_many(&state, &keys).await
        })
    }
}

/// Reads the live entry of a key in a separate statement.
pub(crate) async fn get(state: &State, key: &Key) -> Result<Option<Entry>> {
    let rows = state.read(&state.sql.get, &[&key.as_str()]).await?;
    rows.first().map(|row| codec::entry(key, row, 0)).transpose()
}

/// Reads the live entry of a key. If the entry has this version, its value stays on the server.
pub(crate) async fn get_unless(state: &State, key: &Key, version: Version) -> Result<GetOutcome> {
    let rows = state.read(&state.sql.get_unless, &[&key.as_str(), &version.as_bytes()]).await?;
    let Some(row) = rows.first() else { return Ok(GetOutcome::Absent) };
    if column(row, 4)? {
        return Ok(GetOutcome::NotModified { expires: codec::expires(key, row, 3)? });
    }
    codec::entry(key, row, 0).map(GetOutcome::Found)
}

/// Returns the latest time that the server's clock can show.
pub(crate) async fn time(state: &State) -> Result<SystemTime> {
    let sent_at = Moment::now();
    let rows = state.read(&Sql::new("SELECT clock_timestamp()", &[]), &[]).await?;
    let row = rows.first().ok_or_else(|| Error::corrupt("the server sent no time"))?;
    let time: SystemTime = column(row, 0)?;
    // The server read its clock after the statement was sent.
    time.checked_add(sent_at.elapsed()).ok_or_else(|| Error::corrupt("the server sent a time out of range"))
}

/// Returns true if the key has a live entry.
pub(crate) async fn contains(state: &State, key: &Key) -> Result<bool> {
    Ok(!state.read(&state.sql.contains, &[&key.as_str()]).await?.is_empty())
}
