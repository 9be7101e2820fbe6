//! Reads of the tree, on the caller's thread if possible.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, Key, Result};
use sled::{IVec, Tree};
use tokio::runtime::Handle;

use crate::codec::data_key;
use crate::error::{from_sled, is_fatal};
use crate::health::Poison;
use crate::process_lock::{self, INLINE_WAIT};
use crate::state::State;
use crate::write_behind::Lookup;

impl State {
    /// Reads the tree on the caller's thread. If the locks are not available soon, reads the tree on a thread that may
    /// block.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.inline_or_blocking(move |state, timeout| state.try_read(timeout, &read)).await
    }

    /// Passes the stored bytes of a key to `read`: the bytes of a pending write if there is one, otherwise the bytes in
    /// the tree.
    pub(crate) async fn read_key<T: Send + 'static>(
        self: &Arc<Self>,
        key: &Key,
        read: impl Fn(&Self, &Key, Option<IVec>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let key = key.clone();
        self.inline_or_blocking(move |state, timeout| {
            if let Some(write_behind) = &state.write_behind
                && let Lookup::Pending(stored) = write_behind.get(&key, timeout)?
            {
                return Some(state.check_open().and_then(|()| read(state, &key, stored)));
            }
            state.try_read(timeout, &|tree| read(state, &key, tree.get(data_key(&key)).map_err(from_sled)?))
        })
        .await
    }

    /// Runs `attempt` on the caller's thread with a short timeout. If `attempt` returns `None`, runs it again with the
    /// operation timeout, on a thread that may block.
    pub(crate) async fn inline_or_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: impl Fn(&Self, Duration) -> Option<Result<T>> + Send + 'static,
    ) -> Result<T> {
        if let Some(result) = attempt(self, INLINE_WAIT) {
            return result;
        }
        let state = Arc::clone(self);
        let blocking = move || {
            let timed_out = || Err(Error::unavailable("a write hangs inside sled, and reads wait for it"));
            attempt(&state, state.operation_timeout).unwrap_or_else(timed_out)
        };
        match Handle::try_current() {
            Ok(runtime) => match runtime.spawn_blocking(blocking).await {
                Ok(result) => result,
                Err(_) => Err(Error::unavailable("the runtime has ended")),
            },
            Err(_) => blocking(),
        }
    }

    /// Reads the tree; `None` if a lock was not available within the timeout.
    fn try_read<T>(&self, timeout: Duration, read: &impl Fn(&Tree) -> Result<T>) -> Option<Result<T>> {
        if let Err(error) = self.check_open() {
            return Some(Err(error));
        }
        let tree = self.tree.try_read_for(timeout)?;
        let Some(tree) = &*tree else { return Some(Err(Error::closed())) };
        let _shared = process_lock::shared(timeout)?;
        if let Err(error) = self.check_open() {
            return Some(Err(error));
        }
        Some(match catch_unwind(AssertUnwindSafe(|| read(tree))) {
            Ok(Err(error)) if is_fatal(&error) => {
                self.poison(Poison::failed(&error));
                Err(error)
            }
            Ok(result) => result,
            Err(_panic) => {
                self.poison(Poison::panicked("a read"));
                Err(Error::unavailable(self.health.poison_text()))
            }
        })
    }
}
