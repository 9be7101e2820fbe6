//! The watchers and subscribers of a handle, and the freshness of its sinks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{GapReason, Moment};
use tokio::sync::Notify;

/// The hubs of a handle, and the age of the last answered heartbeat.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(crate) changes: Hub<Changes>,
    pub(crate) messages: Hub<Messages>,
    sinks: Arc<AtomicUsize>,
    /// The longest time for which a sink does not learn that changes may be missing.
    pub(crate) loss_bound: Duration,
    freshness: Mutex<Freshness>,
    /// Notified when the age of the last answered heartbeat counts again.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Freshness {
    /// The moment at which the last answered heartbeat was sent, or at which the listener began to listen; `None` while
    /// its age does not count.
    as_of: Option<Moment>,
    /// The loss that was announced and has not ended in a gap.
    suspended: Option<GapReason>,
    is_closed: bool,
}

impl Watchers {
    pub(crate) fn new(loss_bound: Duration) -> Self {
        Self {
            changes: Hub::new(),
            messages: Hub::new(),
            sinks: Arc::default(),
            loss_bound,
            freshness: Mutex::default(),
            begun: Notify::new(),
        }
    }

    /// The interval between two heartbeats.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.loss_bound / 4
    }

    /// The age of the last answered heartbeat at which a loss is announced. The rest of the bound is the time in which
    /// the age must be noticed.
    fn max_age(&self) -> Duration {
        self.loss_bound / 4 * 3
    }

    pub(crate) fn has_subscribers(&self) -> bool {
        self.changes.has_subscribers() || self.messages.has_subscribers()
    }

    pub(crate) fn has_sinks(&self) -> bool {
        self.sinks.load(Ordering::Acquire) > 0
    }

    /// Counts a sink until the result is dropped.
    pub(crate) fn count_sink(&self) -> SinkCount {
        self.sinks.fetch_add(1, Ordering::Release);
        SinkCount(Arc::clone(&self.sinks))
    }

    /// Counts the age of the last answered heartbeat from now on.
    pub(crate) fn begin(&self) {
        self.freshness().as_of.get_or_insert_with(Moment::now);
        self.begun.notify_one();
    }

    /// Stops counting the age of the last answered heartbeat.
    pub(crate) fn pause(&self) {
        self.freshness().as_of = None;
    }

    /// Announces a loss, unless one was announced before.
    pub(crate) fn suspend(&self, reason: GapReason) {
        self.suspend_if(reason, |_| true);
    }

    /// Ends an announced loss in a gap. The caller listens again, and receives every later change and message.
    pub(crate) fn resume(&self) {
        let mut freshness = self.freshness();
        freshness.as_of = Some(Moment::now());
        self.end_suspension(&mut freshness);
        self.begun.notify_one();
    }

    /// Notes the answer of a heartbeat that was sent at `as_of`. If `is_behind_changes`, every change that was visible
    /// before that moment was passed to the hub, and the sinks learn it. A late answer ends no suspension, because it
    /// proves too little. Returns false for a late answer.
    pub(crate) fn confirm(&self, as_of: Moment, is_behind_changes: bool) -> bool {
        if as_of.elapsed() >= self.max_age() {
            self.check_age();
            return false;
        }
        let mut freshness = self.freshness();
        if freshness.is_closed {
            return false;
        }
        self.end_suspension(&mut freshness);
        freshness.as_of = Some(as_of);
        if is_behind_changes {
            self.changes.current(as_of);
        }
        true
    }

    #[cfg(test)]
    fn is_suspended(&self) -> bool {
        self.freshness().suspended.is_some()
    }

    /// Announces a loss when the last answered heartbeat is too old. Never returns.
    pub(crate) async fn watch_age(&self) {
        use kv_core::Clock as _;
        loop {
            if self.freshness().as_of.is_none() {
                self.begun.notified().await;
            }
            self.check_age();
            // The timer stops while the machine sleeps, so it is short.
            kv_core::SystemClock.sleep(self.loss_bound / 16).await;
        }
    }

    fn check_age(&self) {
        self.suspend_if(GapReason::Unanswered, |freshness| {
            freshness.as_of.is_some_and(|as_of| as_of.elapsed() >= self.max_age())
        });
    }

    /// Announces a loss if none was announced before and the condition holds.
    fn suspend_if(&self, reason: GapReason, condition: impl FnOnce(&Freshness) -> bool) {
        let mut freshness = self.freshness();
        if freshness.is_closed || freshness.suspended.is_some() || !condition(&freshness) {
            return;
        }
        freshness.suspended = Some(reason);
        self.changes.suspend(reason);
        self.messages.suspend(reason);
    }

    fn end_suspension(&self, freshness: &mut Freshness) {
        let Some(reason) = freshness.suspended.take() else { return };
        let reason = if reason == GapReason::Disconnected { GapReason::Reconnected } else { reason };
        self.changes.gap(reason);
        self.messages.gap(reason);
    }

    /// Ends all subscriptions. No sink is called afterwards, except for changes that are being passed on.
    pub(crate) fn close(&self) {
        self.freshness().is_closed = true;
        self.changes.close();
        self.messages.close();
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
    use kv_core::hub::{Delivery, Inbox};
    use kv_core::{Key, KeyPrefix};

    use super::*;

    fn next(inbox: &mut Inbox<Changes>) -> Option<Delivery<Key>> {
        inbox.next().now_or_never().flatten()
    }

    #[test]
    fn a_lost_connection_is_announced_once_and_ends_in_a_gap() {
        let watchers = Watchers::new(Duration::from_secs(2));
        let mut inbox = watchers.changes.subscribe(KeyPrefix::ALL);
        watchers.begin();
        watchers.suspend(GapReason::Disconnected);
        watchers.suspend(GapReason::Unanswered);
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::Disconnected)));
        assert_eq!(next(&mut inbox), None);
        watchers.resume();
        assert_eq!(next(&mut inbox), Some(Delivery::Gap(GapReason::Reconnected)));
        assert!(watchers.confirm(Moment::now(), true));
        assert_eq!(next(&mut inbox), None);
        watchers.close();
        assert!(!watchers.confirm(Moment::now(), true));
    }

    #[test]
    fn a_late_answer_is_a_loss_and_does_not_end_one() {
        let watchers = Watchers::new(Duration::from_nanos(4));
        let mut inbox = watchers.changes.subscribe(KeyPrefix::ALL);
        watchers.begin();
        let sent_at = Moment::now();
        while sent_at.elapsed() < Duration::from_nanos(4) {}
        assert!(!watchers.confirm(sent_at, true));
        assert!(watchers.is_suspended());
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::Unanswered)));
        assert!(!watchers.confirm(sent_at, true));
        assert_eq!(next(&mut inbox), None);
    }

    #[test]
    fn an_age_that_does_not_count_is_no_loss() {
        let watchers = Watchers::new(Duration::from_nanos(4));
        watchers.check_age();
        assert!(!watchers.is_suspended());
        watchers.begin();
        watchers.pause();
        watchers.check_age();
        assert!(!watchers.is_suspended());
    }
}
