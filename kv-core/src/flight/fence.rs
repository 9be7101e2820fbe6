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
        if self.is_raised() {
            return None;
        }
        Some(store.await)
    }

    /// Forbids the load to store its value. Returns true if a store is already running: see [`Fence::settled`].
    pub(super) fn raise(&self) -> bool {
        self.state.is_raised.store(true, Ordering::Release);
        // A store that takes this lock later finds the fence raised.
        self.state.storing.try_lock().is_err()
    }

    /// True if the load must not store its value.
    pub(super) fn is_raised(&self) -> bool {
        self.state.is_raised.load(Ordering::Acquire)
    }

    /// Waits until a store that was running when the fence was raised has ended.
    pub(super) async fn settled(&self) {
        drop(self.state.storing.lock().await);
    }
}
