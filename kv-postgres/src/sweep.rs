//! The sweeper: frees the space of expired entries, and does the housekeeping of the table.

use std::sync::Arc;
use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Clock, Result, SystemClock};

use crate::runtime::until_stopped;
use crate::state::{State, column};
use crate::{message, watch};

/// The maximum number of rows that one statement removes or reschedules.
const MAX_ROWS: i64 = 1_000;

/// The interval of the housekeeping.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(30);

/// Removes expired entries, and returns their number.
pub(crate) async fn sweep(state: &State) -> Result<u64> {
    let mut swept = 0;
    loop {
        let rows = state.write(&state.sql.sweep, &[&MAX_ROWS], Effect::Read).await?;
        let Some(row) = rows.first() else { return Ok(swept) };
        let (removed, due): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        swept += removed.unsigned_abs();
        // The end is decided by the due rows: a concurrent write may keep one from being removed or rescheduled.
        if due < MAX_ROWS {
            return Ok(swept);
        }
    }
}

/// Removes old stored messages, and disables the triggers if no process watches. A failure waits for the next round.
pub(crate) async fn housekeep(state: &State) {
    let _ = message::delete_old(state).await;
    let _ = watch::disable_unused(state).await;
}

/// Sweeps periodically until the store is closed or dropped.
pub(crate) async fn keep_sweeping(state: Arc<State>) {
    let stopped = until_stopped(state.runtime.stopped());
    let sweeping = async {
        let mut since_housekeeping = Duration::ZERO;
        loop {
            SystemClock.sleep(state.sweep_interval).await;
            // A failure waits for the next round.
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
