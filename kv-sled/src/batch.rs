//! Calls over several keys.

use std::sync::Arc;

use kv_core::{DeleteOptions, DeleteOutcome, Entry, Key, Result, SetItem, SetOutcome};

use crate::queue::{Queue, Route};
use crate::state::State;

impl State {
    pub(crate) async fn get_many(self: &Arc<Self>, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut responses = Vec::with_capacity(keys.len());
        for key in keys {
            responses.push(self.get(key).await);
        }
        responses
    }
}

impl Queue {
    /// Sends all writes before it waits for the first response, so that they share a batch.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut sent = Vec::with_capacity(items.len());
        for item in items {
            let route = Route::after(&sent);
            sent.push(self.send_set(&item.key, item.value.clone(), &item.options, route).await);
        }
        self.responses(sent).await
    }

    /// Sends all writes before it waits for the first response, so that they share a batch.
    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let options = DeleteOptions::default();
        let mut sent = Vec::with_capacity(keys.len());
        for key in keys {
            let route = Route::after(&sent);
            sent.push(self.send_delete(key, &options, route).await);
        }
        self.responses(sent).await
    }
}
