//! Reads the settings of the servers again while the store is open.
//!
//! An administrator may change settings, and after a failover another server may have other settings. Therefore the
//! store reads the settings again at every heartbeat and after every new connection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_core::Result;
use tokio::time::{Instant, timeout};

use crate::layout::Shape;
use crate::server::info;
use crate::state::State;

impl State {
    /// Reads the settings of the servers and compares them with the capabilities of the handle.
    async fn read_settings(&self) -> Result<()> {
        let connections = self.router.connections().count();
        let info = info::read_all(&self.router).await?;
        self.write_gate.observe(&self.info.capabilities, &info);
        self.index_trust.observe(info.policy);
        self.index_trust.observe_evictions(info.evicted_keys);
        self.settings_connections.store(connections, Ordering::Release);
        Ok(())
    }

    /// Reads the settings again if a connection was made since they were read, because the new connection may lead to
    /// another server.
    pub(crate) async fn refresh_settings(&self) -> Result<()> {
        if self.settings_connections.load(Ordering::Acquire) == self.router.connections().count() {
            return Ok(());
        }
        Box::pin(self.read_settings()).await
    }
}

/// Reads the settings again and again until the store is dropped. When the server can no longer evict indexes, scans
/// the database and adds the members that the indexes have lost.
pub(crate) async fn run_settings_reader(weak: Weak<State>, heartbeat: Duration) {
    let Some(connections) = weak.upgrade().map(|state| Arc::clone(state.router.connections())) else { return };
    loop {
        let _ = timeout(heartbeat, connections.made()).await;
        let Some(state) = weak.upgrade() else { return };
        // A failed read is repeated at the next heartbeat.
        let _ = state.read_settings().await;
        if state.layout.shape == Shape::Indexed {
            repair_indexes(&weak, state, heartbeat).await;
        }
    }
}

/// Adds the members that the indexes have lost, if the server can no longer evict the indexes. Holds the state only
/// during a step, so that the store can be dropped between two steps. A failed scan is repeated at the next heartbeat.
///
/// The scan of a large database takes longer than a heartbeat, so the settings are also read between two steps.
async fn repair_indexes(weak: &Weak<State>, state: Arc<State>, heartbeat: Duration) {
    let mark = state.index_trust.begin_sweep();
    let mut read_at = Instant::now();
    let mut scan = None;
    let mut next = Some(state);
    while let Some(state) = next.take().or_else(|| weak.upgrade()) {
        if read_at.elapsed() >= heartbeat {
            let _ = state.read_settings().await;
            read_at = Instant::now();
        }
        if !state.index_trust.wants_sweep() || !state.scan_step(&mut scan).await.unwrap_or(false) {
            return;
        }
        if scan.is_none() {
            // If the policy has changed during the scan, the mark is out of date.
            if state.read_settings().await.is_ok() {
                state.index_trust.end_sweep(mark);
            }
            return;
        }
    }
}
