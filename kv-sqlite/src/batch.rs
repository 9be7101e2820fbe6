//! Calls over several keys.

use kv_core::{DeleteOptions, DeleteOutcome, Entry, Key, Result, SetItem, SetOutcome};
use rusqlite::Connection;

use crate::error::read_error;
use crate::get::get;
use crate::liveness::Liveness;
use crate::state::State;
use crate::statement::Statements;
use crate::write::Delete;
use crate::writer::queue::Reply;

impl State {
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let entries = self.read(|connection, sql, liveness| get_many(connection, sql, keys, liveness));
        if let Ok(entries) = entries.await {
            return entries;
        }
        // The transaction that reads all keys failed. Each key is read alone, so that a failure affects only its own
        // key.
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            entries.push(self.get(key).await);
        }
        entries
    }

    /// Submits all writes before it waits for the first reply, so that they can share a batch.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut replies = Vec::with_capacity(items.len());
        for SetItem { key, value, options, .. } in items {
            let submitted = async { self.queue()?.submit(self.to_set(key, value.clone(), options)?).await };
            replies.push(submitted.await);
        }
        wait_for_each(replies).await
    }

    /// Submits all writes before it waits for the first reply, as [`set_many`](Self::set_many) does.
    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut replies = Vec::with_capacity(keys.len());
        for key in keys {
            let delete = Delete { key: key.clone(), options: DeleteOptions::default() };
            let submitted = async { self.queue()?.submit(delete).await };
            replies.push(submitted.await);
        }
        wait_for_each(replies).await
    }
}

async fn wait_for_each<T>(replies: Vec<Result<Reply<T>>>) -> Vec<Result<T>> {
    let mut outcomes = Vec::with_capacity(replies.len());
    for reply in replies {
        outcomes.push(match reply {
            Ok(reply) => reply.wait().await,
            Err(error) => Err(error),
        });
    }
    outcomes
}

/// Reads several keys in one read transaction, with one connection.
fn get_many(
    connection: &Connection,
    sql: &Statements,
    keys: &[Key],
    liveness: &mut Liveness<'_>,
) -> Result<Vec<Result<Option<Entry>>>> {
    let transaction = connection.unchecked_transaction().map_err(read_error)?;
    let entries = keys.iter().map(|key| get(&transaction, sql, key, liveness)).collect();
    transaction.finish().map_err(read_error)?;
    Ok(entries)
}
