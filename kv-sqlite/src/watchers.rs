//! The watchers of a handle and their lease.

use std::sync::Arc;

use kv_core::hub::{Changes, Hub};
use tokio::sync::watch;

/// A lease of this handle, as [`change_log`](crate::change_log) describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Differs for each lease of the handle.
    number: u64,
    /// The last sequence number of the log that the lease does not cover.
    pub(crate) after: i64,
}

/// The state that a handle's watchers share. Clones share one state.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    pub(crate) hub: Hub<Changes>,
    /// A random number that distinguishes this handle from all others on the file.
    pub(crate) handle: i64,
    pub(crate) lease: Arc<watch::Sender<Option<Lease>>>,
    /// True for a store in a file, which other processes may change.
    pub(crate) is_shared: bool,
}

impl Watchers {
    pub(crate) fn new(handle: i64, is_shared: bool) -> Self {
        Self { hub: Hub::new(), handle, lease: Arc::new(watch::Sender::new(None)), is_shared }
    }

    /// Starts a new lease, which covers the changes after this sequence number.
    pub(crate) fn start_lease(&self, after: i64) {
        self.lease.send_modify(|lease| {
            let number = lease.map_or(0, |lease| lease.number + 1);
            *lease = Some(Lease { number, after });
        });
    }
}
