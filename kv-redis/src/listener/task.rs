//! The task of the listener: keeps a connection to every master, and reports gaps.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_core::{Clock, GapReason, SystemClock};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::Failure;
use crate::listener::connection::{ListenerConnection, Wanted};
use crate::listener::hubs::{Kind, Status};
use crate::server::node::Node;
use crate::state::State;

/// The longest pause before a reconnect. Without this limit, a long heartbeat interval would delay the reconnect.
const MAX_PAUSE: Duration = Duration::from_millis(500);

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
            let received_before = {
                let status = hubs.status.borrow();
                (status.changes, status.messages)
            };
            hubs.status.send_modify(|status| (status.changes, status.messages) = (false, false));
            *task = Some(tokio::spawn(run_listener(Arc::downgrade(state), received_before)));
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

/// Calls `run_round` repeatedly until there are no subscribers. `received_before` is true for the kinds (changes,
/// messages) that an earlier task received. The subscribers of these kinds get a gap, because notifications may have
/// been missed since.
async fn run_listener(state: Weak<State>, received_before: (bool, bool)) {
    let mut connections: Vec<ListenerConnection> = Vec::new();
    // True for each kind whose notifications may have been missed since the last successful round.
    let (mut missed_changes, mut missed_messages) = received_before;
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
                *task = None;
                return;
            }
            continue;
        }
        is_first = false;
        let calls = hubs.calls.load(Ordering::Acquire);
        let round = run_round(&store, &mut connections, wanted).await;
        let status = hubs.status.borrow().clone();
        match round {
            Ok(has_gap) => {
                if (has_gap && status.changes) || missed_changes {
                    hubs.changes.gap(GapReason::Reconnected);
                }
                if (has_gap && status.messages) || missed_messages {
                    hubs.messages.gap(GapReason::Reconnected);
                }
                (missed_changes, missed_messages) = (false, false);
                hubs.status.send_modify(|status| {
                    (status.changes, status.messages) = (wanted.changes, wanted.messages);
                    status.served = calls;
                });
            }
            Err(failure) => {
                missed_changes |= status.changes;
                missed_messages |= status.messages;
                hubs.status.send_modify(|status| {
                    (status.changes, status.messages) = (false, false);
                    status.failures += 1;
                    status.last_failure = Some(failure);
                });
            }
        }
        let (wake, interval) = (Arc::clone(&hubs.wake), store.router.timing().heartbeat);
        let is_healthy = connections.iter().all(|connection| !connection.is_dead());
        drop(store);
        if is_healthy {
            let _ = timeout(interval, wake.notified()).await;
        } else {
            // The pause before a reconnect is short, because subscribers miss notifications during the pause. There is
            // a pause, because reconnects to a server that is down would otherwise follow each other without a break.
            SystemClock.sleep((interval / 10).min(MAX_PAUSE)).await;
        }
    }
}

/// Checks the connections, connects to every new master, and starts the wanted notifications. Returns true if
/// notifications may have been missed since the previous round.
async fn run_round(state: &State, connections: &mut Vec<ListenerConnection>, wanted: Wanted) -> Result<bool, Failure> {
    state.router.refresh().await?;
    let masters = state.router.masters();
    let message_master = state.router.master(state.hubs.message_slot);
    let passes_messages = |node: &Arc<Node>| message_master.as_ref().is_some_and(|master| Arc::ptr_eq(master, node));
    let connections_before = connections.len();
    let mut has_gap = false;
    for mut connection in std::mem::take(connections) {
        let is_obsolete = connection.is_dead()
            || !masters.iter().any(|node| Arc::ptr_eq(node, &connection.node))
            || (connection.is_subscribed() && !passes_messages(&connection.node));
        if !is_obsolete && connection.replies_to_ping(state).await {
            connections.push(connection);
        } else {
            has_gap = true;
        }
    }
    for node in masters {
        if !connections.iter().any(|connection| Arc::ptr_eq(&connection.node, &node)) {
            // This master is new since the previous round. Its keys may have changed before this connection was made.
            has_gap |= connections_before > 0;
            connections.push(ListenerConnection::open(state, node).await?);
        }
    }
    for connection in connections.iter_mut() {
        let messages = wanted.messages && passes_messages(&connection.node);
        connection.update(state, Wanted { messages, ..wanted }).await?;
    }
    Ok(has_gap)
}
