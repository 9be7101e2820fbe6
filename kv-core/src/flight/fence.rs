//! The fence of one load: after a write of its key, the load must not store its value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

/// Decides if a load may still store the loaded value.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_raised: AtomicBool,
    /// Held while the load stores its value.
    storing: Mutex<()>,
}

impl Fence {
    /// Runs `store`, unless the key was written since the load began; then it returns `None` and drops `store`.
    ///
    /// # Cancel safety
    /// As `store`.
    pub async fn store<T>(&self, store: impl Future<Output = T>) -> Option<T> {
        let _storing = self.state.storing.lock().await;
        if self.state.is_raised.load(Ordering::Acquire) {
            return None;
        }
        Some(store.await)
    }

    /// Forbids the load to store its value. Returns when a store that is already running has ended.
    pub(super) async fn raise(&self) {
        self.state.is_raised.store(true, Ordering::Release);
        drop(self.state.storing.lock().await);
    }
}
