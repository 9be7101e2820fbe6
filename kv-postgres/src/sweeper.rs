//! The sweeper, a task of the store.
//!
//! The sweeper also does the housekeeping: it deletes old stored messages, and disables triggers that no watcher needs.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, SystemClock};

use crate::runtime::until_stopped;
use crate::state::State;
use crate::sweep::sweep;
use crate::{message, watch};

/// The interval between two rounds of housekeeping.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(30);

/// Deletes old stored messages, and disables the triggers if no process watches. A failed step is repeated in the next
/// round.
pub(crate) async fn housekeep(state: &State) {
    let _ = message::delete_old(state).await;
    let _ = watch::disable_unused(state).await;
}

/// Runs the sweeper until the store is closed or dropped.
pub(crate) async fn run_sweeper(state: Arc<State>) {
    let stopped = until_stopped(state.runtime.stopped());
    let sweeping = async {
        let mut since_housekeeping = Duration::ZERO;
        loop {
            SystemClock.sleep(state.sweep_interval).await;
            // A failed sweep is repeated in the next round.
            let _ = sweep(&state).await;
            since_housekeeping = since_housekeeping.saturating_add(state.sweep_interval);
            if since_housekeeping >= HOUSEKEEPING_INTERVAL {
                since_housekeeping = Duration::ZERO;
                housekeep(&state).await;
            }
        }
    };
    tokio::select! {
        () = stopped => {}
        () = sweeping => {}
    }
}
