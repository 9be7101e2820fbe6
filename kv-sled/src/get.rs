//! Reads of a single key.

use std::sync::Arc;

use kv_core::{Entry, Key, Result, stored};

use crate::codec::entry;
use crate::state::State;

impl State {
    pub(crate) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Entry>> {
        self.read_key(key, |state, key, stored| {
            let Some(stored) = stored else { return Ok(None) };
            let (entry, deadline) = entry(key, stored)?;
            // Do not read the clock for an entry that never expires.
            let is_live = deadline.as_millis().is_none() || !deadline.has_passed(state.clock.now());
            Ok(is_live.then_some(entry))
        })
        .await
    }

    pub(crate) async fn contains(self: &Arc<Self>, key: &Key) -> Result<bool> {
        self.read_key(key, |state, key, stored| {
            let Some(stored) = stored else { return Ok(false) };
            Ok(!stored::deadline(key, &stored)?.has_passed(state.clock.now()))
        })
        .await
    }
}
