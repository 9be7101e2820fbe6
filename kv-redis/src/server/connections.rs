//! The number of connections that were made to the servers of a store, and signs that a server has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts the connections of all nodes, because a new connection may lead to another server. Wakes the listener if a
/// server may have changed.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    count: AtomicU64,
    made: Notify,
    suspicions: AtomicU64,
    listener_wake: Arc<Notify>,
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

    /// Records a sign that reads reach another server than the listener: a server with another run id, a replica, or a
    /// server that loads its data. Wakes the listener, which connects again.
    pub(crate) fn suspect(&self) {
        self.suspicions.fetch_add(1, Ordering::AcqRel);
        self.listener_wake.notify_one();
    }

    /// Returns the number of signs so far.
    pub(crate) fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Acquire)
    }

    /// Wakes the listener.
    pub(crate) fn listener_wake(&self) -> &Arc<Notify> {
        &self.listener_wake
    }
}
