//! The task of the listener: runs a round for every heartbeat, and at once after a loss.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use futures_util::future::select;
use kv_core::{Clock, GapReason, SystemClock};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::Failure;
use crate::listener::connection::Wanted;
use crate::listener::hubs::{Kind, Status};
use crate::listener::round::Connections;
use crate::listener::watchers::Watchers;
use crate::state::State;

/// Makes the listener receive notifications of this kind. Returns once the listener is subscribed on every master that
/// sends this kind, and every notification sent before the call has reached the hub. The caller must subscribe to the
/// hub first.
pub(crate) async fn listen(state: &Arc<State>, kind: Kind) -> Result<(), Failure> {
    let hubs = &state.hubs;
    let mut status = {
        let mut task = hubs.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            // If the previous task has ended with its runtime, the status still names the kinds that the previous task
            // received.
            hubs.status.send_modify(|status| (status.changes, status.messages) = (false, false));
            *task = Some(tokio::spawn(run_listener(Arc::downgrade(state), Arc::clone(&hubs.watchers))));
        }
        hubs.status.subscribe()
    };
    let failures_before = status.borrow().failures;
    let call = hubs.calls.fetch_add(1, Ordering::AcqRel) + 1;
    hubs.wake.notify_one();
    let longest_wait = state.router.timing().connect + state.router.timing().operation;
    let is_served = |status: &Status| status.receives(kind) && status.served >= call;
    let served = status.wait_for(|status| is_served(status) || status.failures > failures_before);
    match timeout(longest_wait, served).await {
        Ok(Ok(status)) if is_served(&status) => Ok(()),
        Ok(Ok(status)) => Err(status.last_failure.clone().unwrap_or(Failure::NotSentInTime)),
        Ok(Err(_)) => Err(Failure::Closed),
        Err(_) => Err(Failure::NotSentInTime),
    }
}

/// Announces a loss if the task of the listener ends with its runtime.
struct Ending(Arc<Watchers>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.suspend(GapReason::Disconnected);
    }
}

/// Runs rounds until there are no subscribers, and announces a loss if a round takes too long.
async fn run_listener(state: Weak<State>, watchers: Arc<Watchers>) {
    let ending = Ending(Arc::clone(&watchers));
    // The first future ends, the second never does.
    select(pin!(run_rounds(state)), pin!(watchers.watch_age())).await;
    drop(ending);
}

async fn run_rounds(state: Weak<State>) {
    let mut connections = Connections::default();
    let mut is_first = true;
    loop {
        let Some(store) = state.upgrade() else { return };
        let hubs = &store.hubs;
        let wanted = Wanted {
            changes: hubs.has_subscribers(Kind::Changes) || !hubs.retire(Kind::Changes),
            messages: hubs.has_subscribers(Kind::Messages) || !hubs.retire(Kind::Messages),
        };
        if !wanted.changes && !wanted.messages && !is_first {
            let mut task = hubs.task.lock();
            if !hubs.has_subscribers(Kind::Changes) && !hubs.has_subscribers(Kind::Messages) {
                hubs.watchers.end();
                *task = None;
                return;
            }
            continue;
        }
        is_first = false;
        let calls = hubs.calls.load(Ordering::Acquire);
        match connections.run_round(&store, wanted).await {
            Ok(()) => hubs.status.send_modify(|status| {
                (status.changes, status.messages) = (wanted.changes, wanted.messages);
                status.served = calls;
            }),
            Err(failure) => hubs.status.send_modify(|status| {
                (status.changes, status.messages) = (false, false);
                status.failures += 1;
                status.last_failure = Some(failure);
            }),
        }
        let (wake, watchers) = (Arc::clone(&hubs.wake), Arc::clone(&hubs.watchers));
        let is_steady = connections.is_healthy() && !watchers.is_suspended();
        drop(store);
        if is_steady {
            let _ = timeout(watchers.heartbeat_interval(), wake.notified()).await;
        } else {
            SystemClock.sleep(watchers.reconnect_pause()).await;
        }
    }
}
