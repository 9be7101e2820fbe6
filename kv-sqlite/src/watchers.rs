//! The watchers of a handle, and the lease of the handle.

use std::sync::Arc;

use kv_core::hub::{Changes, Hub};
use tokio::sync::watch;

/// A lease of this handle; [`change_log`](crate::change_log) describes leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Counts the leases of the handle, so that each lease differs from the earlier leases.
    number: u64,
    /// The lease covers the changes whose sequence number in the log is larger than this number.
    pub(crate) after: i64,
}

/// The hub and the lease of a handle's watchers. Clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    pub(crate) hub: Hub<Changes>,
    /// A random number that distinguishes this handle from all other handles on the file.
    pub(crate) handle_id: i64,
    pub(crate) lease: Arc<watch::Sender<Option<Lease>>>,
    /// True for a store in a file, which other processes may change.
    pub(crate) is_shared: bool,
}

impl Watchers {
    pub(crate) fn new(handle_id: i64, is_shared: bool) -> Self {
        Self { hub: Hub::new(), handle_id, lease: Arc::new(watch::Sender::new(None)), is_shared }
    }

    /// Starts a new lease, which covers the changes after the sequence number `after`.
    pub(crate) fn start_lease(&self, after: i64) {
        self.lease.send_modify(|lease| {
            let number = lease.map_or(0, |lease| lease.number + 1);
            *lease = Some(Lease { number, after });
        });
    }
}
