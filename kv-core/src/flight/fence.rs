//! The fence of one load. After a write of the load's key, the load must not store the loaded value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

/// Decides whether a load may still store the loaded value.
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
    /// Runs `store`. If the key was written since the load began, drops `store` instead and returns `None`.
    ///
    /// # Cancel safety
    /// The cancel safety of `store`.
    pub async fn store<T>(&self, store: impl Future<Output = T>) -> Option<T> {
        let _storing = self.state.storing.lock().await;
        if self.is_raised() {
            return None;
        }
        Some(store.await)
    }

    /// Prevents the load from storing its value. Returns true if the load is already storing the value: see
    /// [`Fence::settled`].
    pub(super) fn raise(&self) -> bool {
        self.state.is_raised.store(true, Ordering::Release);
        // A load that takes this lock later finds the fence raised and stores nothing.
        self.state.storing.try_lock().is_err()
    }

    /// True if the load must not store its value.
    pub(super) fn is_raised(&self) -> bool {
        self.state.is_raised.load(Ordering::Acquire)
    }

    /// If the load was storing its value when the fence was raised, waits until the value is stored.
    pub(super) async fn settled(&self) {
        drop(self.state.storing.lock().await);
    }
}
