//! The watchers of a handle, the lease of the handle, and the freshness of its sinks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_core::hub::{Changes, Hub};
use kv_core::{GapReason, Key, Moment};
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
///
/// A thread that needs both locks takes the lock of the lease first, and then the lock of the freshness.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    pub(crate) hub: Hub<Changes>,
    /// A random number that distinguishes this handle from all other handles on the file.
    pub(crate) handle_id: i64,
    pub(crate) lease: Arc<watch::Sender<Option<Lease>>>,
    /// True for a store in a file, which other processes may change.
    pub(crate) is_shared: bool,
    freshness: Arc<Mutex<Freshness>>,
    sinks: Arc<AtomicUsize>,
}

/// The changes of a store in a file that the hub does not know yet.
#[derive(Debug, Default)]
struct Freshness {
    /// The moment at which the writer began a commit whose changes the hub does not know yet.
    committing_since: Option<Moment>,
    /// True if a failed commit may still become visible.
    is_in_doubt: bool,
    /// The loss that was announced and has not ended in a gap.
    suspended: Option<GapReason>,
}

/// The state of the database after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitEnd {
    /// The changes are visible, or they will never become visible.
    Final,
    /// The commit failed, and its changes may still become visible: when another process recovers the write-ahead log.
    InDoubt,
}

impl Watchers {
    pub(crate) fn new(handle_id: i64, is_shared: bool) -> Self {
        Self {
            hub: Hub::new(),
            handle_id,
            lease: Arc::new(watch::Sender::new(None)),
            is_shared,
            freshness: Arc::default(),
            sinks: Arc::default(),
        }
    }

    /// Starts a new lease, which covers the changes after the sequence number `after`. If the handle had a lease, its row
    /// is missing, and other handles may not have logged their changes since: the watchers get a gap.
    ///
    /// The writer calls this before it commits the row of the new lease. So a poll that began under the old lease never
    /// takes the new row for the old one.
    pub(crate) fn start_lease(&self, after: i64) {
        self.lease.send_modify(|lease| {
            let was_suspended = self.freshness().suspended.take().is_some();
            if lease.is_some() || was_suspended {
                self.hub.gap(GapReason::NotReported);
            }
            let number = lease.map_or(0, |lease| lease.number + 1);
            *lease = Some(Lease { number, after });
        });
    }

    /// Marks the begin of a commit. From now on, its changes may be visible before the hub knows them.
    pub(crate) fn begin_commit(&self) {
        if self.is_shared {
            self.freshness().committing_since = Some(Moment::now());
        }
    }

    /// Notifies the hub of the changes of a commit.
    pub(crate) fn end_commit(&self, changed: &[Key], end: CommitEnd) {
        for key in changed {
            self.hub.notify(key);
        }
        if !self.is_shared {
            return;
        }
        let mut freshness = self.freshness();
        freshness.committing_since = None;
        let was_in_doubt = std::mem::replace(&mut freshness.is_in_doubt, end == CommitEnd::InDoubt);
        match (was_in_doubt, end) {
            // A commit that succeeds has overwritten the doubtful commit in the log, or follows it.
            (true, CommitEnd::Final) => self.hub.gap(GapReason::NotReported),
            (false, CommitEnd::InDoubt) => self.hub.suspend(GapReason::NotReported),
            _ => {}
        }
    }

    /// Returns a moment before which no change of this handle became visible that the hub does not know; `None` if a
    /// failed commit may still become visible.
    pub(crate) fn reported_until(&self) -> Option<Moment> {
        let freshness = self.freshness();
        if freshness.is_in_doubt {
            return None;
        }
        Some(freshness.committing_since.unwrap_or_else(Moment::now))
    }

    /// Announces a loss, unless this lease has ended or a loss was announced before. Returns true if it was announced.
    pub(crate) fn suspend(&self, lease: Lease, reason: GapReason) -> bool {
        let held = self.lease.borrow();
        let mut freshness = self.freshness();
        if *held != Some(lease) || freshness.suspended.is_some() {
            return false;
        }
        freshness.suspended = Some(reason);
        self.hub.suspend(reason);
        true
    }

    /// Tells the sinks that the hub knows every change from before `as_of`, unless this lease has ended or a failed commit
    /// may still become visible. Returns true if the sinks were told. An announced loss ends in a gap first.
    pub(crate) fn confirm(&self, lease: Lease, as_of: Moment) -> bool {
        let held = self.lease.borrow();
        let mut freshness = self.freshness();
        if *held != Some(lease) || freshness.is_in_doubt {
            return false;
        }
        if let Some(reason) = freshness.suspended.take() {
            self.hub.gap(reason);
        }
        self.hub.current(as_of);
        true
    }

    pub(crate) fn has_sinks(&self) -> bool {
        self.sinks.load(Ordering::Acquire) > 0
    }

    /// Counts a sink until the result is dropped.
    pub(crate) fn count_sink(&self) -> SinkCount {
        self.sinks.fetch_add(1, Ordering::Release);
        SinkCount(Arc::clone(&self.sinks))
    }

    fn freshness(&self) -> MutexGuard<'_, Freshness> {
        self.freshness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted sink.
#[derive(Debug)]
pub(crate) struct SinkCount(Arc<AtomicUsize>);

impl Drop for SinkCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kv_core::KeyPrefix;
    use kv_core::hub::{Delivery, Inbox};

    use super::*;

    fn next(inbox: &mut Inbox<Changes>) -> Option<Delivery<Key>> {
        inbox.next().now_or_never().flatten()
    }

    fn key() -> Key {
        Key::new(["k"]).unwrap()
    }

    fn watched() -> (Watchers, Inbox<Changes>, Lease) {
        let watchers = Watchers::new(1, true);
        let inbox = watchers.hub.subscribe(KeyPrefix::ALL);
        watchers.start_lease(0);
        let lease = watchers.lease.borrow().unwrap();
        (watchers, inbox, lease)
    }

    #[test]
    fn nothing_after_the_begin_of_a_commit_counts_as_reported_until_the_hub_knows_the_changes() {
        let (watchers, mut inbox, _) = watched();
        let before = Moment::now();
        watchers.begin_commit();
        let begun = Moment::now();
        let until = watchers.reported_until().unwrap();
        assert!(before <= until && until <= begun);
        assert_eq!(watchers.reported_until(), Some(until));
        watchers.end_commit(&[key()], CommitEnd::Final);
        assert!(watchers.reported_until().unwrap() >= begun);
        assert_eq!(next(&mut inbox), Some(Delivery::Item(key())));
        assert_eq!(next(&mut inbox), None);
    }

    #[test]
    fn a_commit_in_doubt_is_a_loss_until_the_next_commit() {
        let (watchers, mut inbox, lease) = watched();
        let as_of = watchers.reported_until().unwrap();
        watchers.begin_commit();
        watchers.end_commit(&[key()], CommitEnd::InDoubt);
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::NotReported)));
        assert_eq!(next(&mut inbox), Some(Delivery::Item(key())));
        assert_eq!(watchers.reported_until(), None);
        assert!(!watchers.confirm(lease, as_of));
        watchers.begin_commit();
        watchers.end_commit(&[], CommitEnd::Final);
        assert_eq!(next(&mut inbox), Some(Delivery::Gap(GapReason::NotReported)));
        assert!(watchers.confirm(lease, watchers.reported_until().unwrap()));
    }

    #[test]
    fn a_new_lease_is_a_gap_and_refuses_what_was_read_under_the_old_lease() {
        let (watchers, mut inbox, old) = watched();
        assert_eq!(next(&mut inbox), None);
        let as_of = watchers.reported_until().unwrap();
        watchers.start_lease(5);
        assert_eq!(next(&mut inbox), Some(Delivery::Gap(GapReason::NotReported)));
        assert!(!watchers.confirm(old, as_of) && !watchers.suspend(old, GapReason::Unanswered));
        let new = watchers.lease.borrow().unwrap();
        assert_eq!(new.after, 5);
        assert!(watchers.suspend(new, GapReason::Unanswered) && !watchers.suspend(new, GapReason::Unanswered));
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::Unanswered)));
        assert!(watchers.confirm(new, as_of));
        assert_eq!(next(&mut inbox), Some(Delivery::Gap(GapReason::Unanswered)));
        assert_eq!(next(&mut inbox), None);
    }
}
