//! Sweeping expired entries.
//!
//! A caller or the background task starts a sweep.

use std::sync::Arc;

use kv_core::{BoxFuture, Clock, Result};

use crate::state::State;
use crate::sweeper::Sweepable;

impl State {
    /// Removes the expired entries and returns their number.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        self.admit(1).await?;
        Ok(self.engine.sweep().await)
    }
}

impl Sweepable for State {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.engine.services().clock)
    }

    fn sweep_expired(&self) -> BoxFuture<'_, u64> {
        Box::pin(self.engine.sweep())
    }

    fn is_swept(&self) -> bool {
        self.engine.is_swept()
    }
}
