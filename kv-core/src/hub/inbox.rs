//! A subscriber's queue, and the end of the subscription that receives from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use super::Shared;
use super::places::Subscriber;
use super::queue::Queue;
use crate::watch::GapReason;

/// The queue of a subscriber, and the loss that it has not received yet.
#[derive(Debug, Default)]
pub(super) struct Mailbox<Q: Queue> {
    state: Mutex<State<Q>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State<Q: Queue> {
    /// A known loss that has not ended in a gap.
    suspended: Option<GapReason>,
    /// True if the subscriber has not received `suspended` yet.
    announces_suspended: bool,
    gap: Option<GapReason>,
    queue: Q,
    closed: bool,
}

impl<Q: Queue> Mailbox<Q> {
    /// Queues an item. If the queue is full, empties it, and the subscriber gets a gap.
    pub(super) fn push(&self, item: &Q::Item) {
        self.change(|state| {
            // An item proves that the items come again. Those in between are lost.
            if let Some(reason) = state.suspended {
                state.replace_by_gap(reason);
            }
            if !state.queue.push(item.clone()) {
                state.replace_by_gap(GapReason::Lagged);
            }
        });
    }

    /// Announces that items may be lost from now on. The queued items stay.
    pub(super) fn suspend(&self, reason: GapReason) {
        self.change(|state| {
            state.announces_suspended |= state.suspended.is_none();
            state.suspended.get_or_insert(reason);
        });
    }

    /// Empties the queue. The subscriber gets a gap.
    pub(super) fn gap(&self, reason: GapReason) {
        self.change(|state| state.replace_by_gap(reason));
    }

    /// Ends the subscription after its queued items.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State<Q>)) {
        change(&mut self.state());
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Queue> State<Q> {
    fn replace_by_gap(&mut self, reason: GapReason) {
        (self.suspended, self.announces_suspended) = (None, false);
        self.gap = Some(reason);
        self.queue = Q::default();
    }
}

/// An item or a loss, as returned by [`Inbox::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery<T> {
    /// An item.
    Item(T),
    /// Items are possibly lost from now on. A gap or the end follows.
    Suspended(GapReason),
    /// Items may have been lost before this point. No later item is lost without another gap.
    Gap(GapReason),
}

/// The receiving end of a subscription. The subscription ends when this end is dropped.
#[derive(Debug)]
pub struct Inbox<Q: Queue> {
    pub(super) subscriber: Arc<Subscriber<Q>>,
    pub(super) shared: Arc<Shared<Q>>,
}

impl<Q: Queue> Inbox<Q> {
    /// Waits for the next delivery. Returns `None` when the hub is closed and the queue is empty. A delivery costs one
    /// unit of tokio's cooperative budget.
    ///
    /// # Cancel safety
    /// A dropped future removes nothing from the queue.
    pub async fn next(&mut self) -> Option<Delivery<Q::Item>> {
        // Without this charge a stream that always has an item would block the other tasks of its thread.
        consume_budget().await;
        let mailbox = self.subscriber.mailbox()?;
        loop {
            {
                let mut state = mailbox.state();
                if let Some(reason) = state.gap.take() {
                    return Some(Delivery::Gap(reason));
                }
                if let (true, Some(reason)) = (std::mem::take(&mut state.announces_suspended), state.suspended) {
                    return Some(Delivery::Suspended(reason));
                }
                if let Some(item) = state.queue.pop() {
                    return Some(Delivery::Item(item));
                }
                if state.closed {
                    return None;
                }
            }
            mailbox.wake.notified().await;
        }
    }
}

impl<Q: Queue> Drop for Inbox<Q> {
    fn drop(&mut self) {
        self.shared.remove(&self.subscriber);
    }
}
