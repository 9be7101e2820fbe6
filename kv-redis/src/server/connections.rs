//! The number of connections that were made to the servers of a store.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts the connections of all nodes, because a new connection may lead to another server.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    count: AtomicU64,
    made: Notify,
}

impl Connections {
    /// Records a new connection.
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.made.notify_one();
    }

    /// Returns the number of connections so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits for a connection that was made since the previous wait.
    pub(crate) async fn made(&self) {
        self.made.notified().await;
    }
}
