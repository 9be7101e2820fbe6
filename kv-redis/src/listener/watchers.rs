//! The hubs of the watchers and subscribers of a store, and the freshness of its sinks.

use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Clock, GapReason, Moment, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The hubs of a store, and the age of the last answered heartbeat.
#[derive(Debug)]
pub(crate) struct Watchers {
    pub(crate) changes: Hub<Changes>,
    pub(crate) messages: Hub<Messages>,
    /// The longest time for which a sink does not learn that changes may be missing.
    loss_bound: Duration,
    freshness: Mutex<Freshness>,
    /// Notified when the age of the last answered heartbeat counts again.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Freshness {
    /// The moment at which the last answered heartbeat was sent; `None` while its age does not count.
    as_of: Option<Moment>,
    /// The loss that was announced and has not ended in a gap.
    suspended: Option<GapReason>,
    /// The number of losses so far, announced or not.
    losses: u64,
    is_closed: bool,
}

/// The number of losses before a heartbeat was sent. The answer of the heartbeat counts only if there was no loss since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses(u64);

impl Watchers {
    pub(crate) fn new(loss_bound: Duration) -> Self {
        Self {
            changes: Hub::new(),
            messages: Hub::new(),
            loss_bound,
            freshness: Mutex::default(),
            begun: Notify::new(),
        }
    }

    /// The interval between two heartbeats.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.loss_bound / 4
    }

    /// The age of the last answered heartbeat at which a loss is announced. The rest of the bound is the time in which
    /// the age must be noticed.
    fn max_age(&self) -> Duration {
        self.loss_bound / 4 * 3
    }

    /// The time within which a heartbeat must be answered. A heartbeat that is sent on time is late when the age of the
    /// heartbeat before is the maximum.
    pub(super) fn heartbeat_timeout(&self) -> Duration {
        self.loss_bound / 2
    }

    /// The time within which a connection of the reads must be made again after a loss, or answer.
    pub(super) fn reader_timeout(&self) -> Duration {
        self.loss_bound.max(Duration::from_secs(1))
    }

    /// The pause before a reconnect. The pause is short, because subscribers miss notifications during the pause. There
    /// is a pause, because reconnects to a server that is down would otherwise follow each other without a break.
    pub(super) fn reconnect_pause(&self) -> Duration {
        (self.loss_bound / 20).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// Returns the number of losses so far.
    pub(super) fn losses(&self) -> Losses {
        Losses(self.freshness.lock().losses)
    }

    /// True while a loss is announced.
    pub(super) fn is_suspended(&self) -> bool {
        self.freshness.lock().suspended.is_some()
    }

    /// Announces a loss, unless one was announced before or nothing was received before.
    pub(super) fn suspend(&self, reason: GapReason) {
        let mut freshness = self.freshness.lock();
        freshness.losses += 1;
        if freshness.as_of.is_some() {
            self.announce(&mut freshness, reason);
        }
    }

    /// Notes the answers of the heartbeats that were sent to all masters at `as_of`. Every change that was visible before
    /// that moment was passed to the hub, and the sinks learn it. An announced loss ends in a gap first. Returns false if
    /// the answers are late, or if there was a loss since the heartbeats were sent.
    pub(super) fn confirm(&self, as_of: Moment, losses: Losses) -> bool {
        if as_of.elapsed() >= self.max_age() {
            self.check_age();
            return false;
        }
        let mut freshness = self.freshness.lock();
        if freshness.is_closed || freshness.losses != losses.0 {
            return false;
        }
        if let Some(reason) = freshness.suspended.take() {
            let reason = if reason == GapReason::Disconnected { GapReason::Reconnected } else { reason };
            self.changes.gap(reason);
            self.messages.gap(reason);
        }
        if freshness.as_of.replace(as_of).is_none() {
            self.begun.notify_one();
        }
        self.changes.current(as_of);
        true
    }

    /// Stops counting the age of the last answered heartbeat, because there are no subscribers.
    pub(super) fn end(&self) {
        let mut freshness = self.freshness.lock();
        (freshness.as_of, freshness.suspended) = (None, None);
    }

    /// Announces a loss when the last answered heartbeat is too old. Never returns.
    pub(super) async fn watch_age(&self) {
        loop {
            if self.freshness.lock().as_of.is_none() {
                self.begun.notified().await;
            }
            self.check_age();
            // The timer stops while the machine sleeps, so it is short.
            SystemClock.sleep(self.loss_bound / 16).await;
        }
    }

    /// Announces a loss if the last answered heartbeat is too old.
    pub(super) fn check_age(&self) {
        let mut freshness = self.freshness.lock();
        let is_old = freshness.as_of.is_some_and(|as_of| as_of.elapsed() >= self.max_age());
        // Each call would otherwise count another loss, and no heartbeat could end the first.
        if is_old && freshness.suspended.is_none() {
            freshness.losses += 1;
            self.announce(&mut freshness, GapReason::Unanswered);
        }
    }

    fn announce(&self, freshness: &mut Freshness, reason: GapReason) {
        if !freshness.is_closed && freshness.suspended.is_none() {
            freshness.suspended = Some(reason);
            self.changes.suspend(reason);
            self.messages.suspend(reason);
        }
    }

    /// Ends all subscriptions. No loss is announced afterwards.
    pub(super) fn close(&self) {
        self.freshness.lock().is_closed = true;
        self.changes.close();
        self.messages.close();
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

    fn watched(bound: Duration) -> (Watchers, Inbox<Changes>) {
        let watchers = Watchers::new(bound);
        let inbox = watchers.changes.subscribe(KeyPrefix::ALL);
        (watchers, inbox)
    }

    #[test]
    fn a_lost_connection_is_announced_once_and_ends_in_a_gap() {
        let (watchers, mut inbox) = watched(Duration::from_secs(2));
        watchers.suspend(GapReason::Disconnected);
        assert_eq!(next(&mut inbox), None, "nothing was received before");
        assert!(watchers.confirm(Moment::now(), watchers.losses()));
        watchers.suspend(GapReason::Disconnected);
        watchers.suspend(GapReason::Unanswered);
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::Disconnected)));
        assert_eq!(next(&mut inbox), None);
        assert!(watchers.confirm(Moment::now(), watchers.losses()));
        assert_eq!(next(&mut inbox), Some(Delivery::Gap(GapReason::Reconnected)));
        assert_eq!(next(&mut inbox), None);
        watchers.close();
        assert!(!watchers.confirm(Moment::now(), watchers.losses()));
    }

    #[test]
    fn an_answer_does_not_count_after_a_loss() {
        let (watchers, mut inbox) = watched(Duration::from_secs(2));
        assert!(watchers.confirm(Moment::now(), watchers.losses()));
        let losses = watchers.losses();
        watchers.suspend(GapReason::ServerChanged);
        assert!(!watchers.confirm(Moment::now(), losses));
        assert_eq!(next(&mut inbox), Some(Delivery::Suspended(GapReason::ServerChanged)));
        assert_eq!(next(&mut inbox), None);
        let losses = watchers.losses();
        watchers.suspend(GapReason::Disconnected);
        assert!(!watchers.confirm(Moment::now(), losses), "a second loss");
    }

    #[test]
    fn a_late_answer_is_a_loss_and_does_not_end_one() {
        let (watchers, mut inbox) = watched(Duration::from_millis(20));
        assert!(watchers.confirm(Moment::now(), watchers.losses()));
        let sent_at = Moment::now();
        while sent_at.elapsed() < Duration::from_millis(15) {}
        for expected in [Some(Delivery::Suspended(GapReason::Unanswered)), None] {
            assert!(!watchers.confirm(sent_at, watchers.losses()));
            assert_eq!(next(&mut inbox), expected);
        }
    }
}
