//! A round of the listener: connects to every server that serves reads, and sends a heartbeat to each.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use kv_core::{GapReason, Moment};
use tokio::time::Instant;

use crate::error::Failure;
use crate::listener::connection::{ListenerConnection, Wanted};
use crate::listener::heartbeat::Proof;
use crate::server::identity::ServerId;
use crate::server::node::Node;
use crate::state::State;

/// The connections of the listener.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<ListenerConnection>,
    /// The number of signs of a changed server that the listener knows.
    suspicions: u64,
}

impl Connections {
    /// Connects to every new server, starts the wanted notifications, and sends a heartbeat to all servers at once. After
    /// the answers, the listener has received every change from before this call. A loss is announced as soon as it is
    /// known, and the answers end it.
    pub(super) async fn run_round(&mut self, state: &State, wanted: Wanted) -> Result<(), Failure> {
        let watchers = &state.hubs.watchers;
        watchers.check_age();
        self.reconnect_readers(state).await?;
        let suspicions = self.suspicions;
        self.connect(state, wanted).await?;
        let (losses, as_of) = (watchers.losses(), Moment::now());
        self.prove(state).await?;
        if state.router.connections().suspicions() != suspicions {
            return Err(Failure::NotProven("the server has changed"));
        }
        if watchers.confirm(as_of, losses) {
            Ok(())
        } else {
            Err(Failure::NotProven("changes may have been lost since the last heartbeat"))
        }
    }

    /// True if there is no connection that must be made again.
    pub(super) fn is_healthy(&self) -> bool {
        self.open.iter().all(|connection| !connection.is_dead())
    }

    /// After a loss, refreshes the slot map, and makes the lost connections of the reads again, which shows if they reach
    /// other servers now. If they do, ends all connections of the listener.
    async fn reconnect_readers(&mut self, state: &State) -> Result<(), Failure> {
        let watchers = &state.hubs.watchers;
        let is_suspect = |known| state.router.connections().suspicions() != known;
        if is_suspect(self.suspicions) {
            watchers.suspend(GapReason::ServerChanged);
        }
        if self.open.is_empty() || !self.is_healthy() || watchers.is_suspended() {
            state.router.refresh().await?;
            let (ping, deadline) = (redis::cmd("PING"), Instant::now() + watchers.reader_timeout());
            let sources = state.router.sources();
            let pings = sources
                .iter()
                .map(|node| async { node.call(&ping, deadline).await.inspect_err(|_| forget(state, node)) });
            try_join_all(pings).await?;
        }
        if is_suspect(self.suspicions) {
            watchers.suspend(GapReason::ServerChanged);
            self.open.clear();
            self.suspicions = state.router.connections().suspicions();
        }
        Ok(())
    }

    /// Makes the missing connections, and starts the wanted notifications on all.
    async fn connect(&mut self, state: &State, wanted: Wanted) -> Result<(), Failure> {
        let watchers = &state.hubs.watchers;
        let sources = state.router.sources();
        let message_master = state.router.master(state.hubs.message_slot);
        let passes_messages =
            |node: &Arc<Node>| message_master.as_ref().is_some_and(|master| Arc::ptr_eq(master, node));
        let before = self.open.len();
        self.open.retain(|connection| {
            let is_source = sources.iter().any(|node| Arc::ptr_eq(node, &connection.node));
            is_source && !connection.is_dead() && (!connection.is_subscribed() || passes_messages(&connection.node))
        });
        let is_missing = |node: &&Arc<Node>| !self.open.iter().any(|open| Arc::ptr_eq(&open.node, node));
        let missing: Vec<_> = sources.iter().filter(is_missing).map(Arc::clone).collect();
        if self.open.len() < before || (before > 0 && !missing.is_empty()) {
            // The keys of a new master may have changed before its connection is made.
            watchers.suspend(GapReason::ServerChanged);
        }
        let opening = missing.into_iter().map(|node| async move {
            let opened = ListenerConnection::open(state, Arc::clone(&node)).await;
            opened.inspect_err(|_| forget(state, &node))
        });
        self.open.extend(try_join_all(opening).await?);
        for connection in &mut self.open {
            let messages = wanted.messages && passes_messages(&connection.node);
            connection.update(state, Wanted { messages, ..wanted }).await?;
        }
        Ok(())
    }

    /// Sends a heartbeat to all servers at once, and checks the answers. If an answer proves a loss, announces it.
    async fn prove(&mut self, state: &State) -> Result<(), Failure> {
        let (watchers, is_cluster) = (&state.hubs.watchers, state.router.is_cluster());
        let limit = watchers.heartbeat_timeout();
        let heartbeats = self.open.iter_mut().map(|connection| async move {
            match connection.prove(is_cluster, limit).await {
                Ok(proof) => check(state, connection, proof),
                Err(failure) => {
                    let reason = match failure {
                        Failure::TimedOut => GapReason::Unanswered,
                        Failure::Refused(_) => GapReason::ServerChanged,
                        _ => GapReason::Disconnected,
                    };
                    Err((reason, failure))
                }
            }
            .map_err(|(reason, failure)| {
                watchers.suspend(reason);
                connection.mark_dead();
                forget(state, &connection.node);
                failure
            })
        });
        join_all(heartbeats).await.into_iter().collect::<Result<(), Failure>>()?;
        let is_listened = |node: &Arc<Node>| self.open.iter().any(|open| Arc::ptr_eq(&open.node, node));
        if !state.router.sources().iter().all(is_listened) {
            watchers.suspend(GapReason::ServerChanged);
            return Err(Failure::NotProven("a slot has moved to another master"));
        }
        Ok(())
    }
}

/// Compares the proof with the proof before, and with the server that serves reads.
fn check(state: &State, connection: &mut ListenerConnection, proof: Proof) -> Result<(), (GapReason, Failure)> {
    let changed = |reason| Err((GapReason::ServerChanged, Failure::NotProven(reason)));
    let renew = || connection.node.renew_connection_of_age(state.hubs.watchers.heartbeat_interval());
    if proof.is_replica {
        renew();
        return changed("the server is a replica, and another server may accept writes");
    }
    if connection.node.server().is_some_and(|server| server != proof.server) {
        renew();
        return changed("the address of the server leads to another server");
    }
    if state.info.capabilities.sinks && proof.server == ServerId::default() {
        return changed("the server does not report its run id any more");
    }
    let before = connection.proof.as_ref();
    if before.is_some_and(|before| before.server != proof.server) {
        return changed("the server has changed");
    }
    if before.is_some_and(|before| before.swaps.is_some() && before.swaps != proof.swaps) {
        // The database has other entries now.
        state.hubs.watchers.changes.gap(GapReason::Flushed);
    }
    if let (Some(cluster), Some(slots)) = (state.router.cluster(), &proof.slots)
        && before.is_none_or(|before| before.slots.as_ref() != Some(slots))
    {
        let added = cluster.add_owners(&connection.node, slots.clone());
        added.map_err(|failure| (GapReason::ServerChanged, failure))?;
    }
    connection.proof = Some(proof);
    Ok(())
}

/// Stops listening to a node that does not serve reads as a master does.
fn forget(state: &State, node: &Arc<Node>) {
    if let Some(cluster) = state.router.cluster() {
        cluster.remove_source(node);
    }
}
