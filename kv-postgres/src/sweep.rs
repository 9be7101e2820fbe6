//! Freeing the space of what has expired, and the small housekeeping of a table.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Result, SystemClock};

use crate::error::Effect;
use crate::home::until_stopped;
use crate::message;
use crate::state::{Core, column};
use crate::watch;

/// How many rows go in one statement.
const BATCH: i64 = 1_000;

/// How often to look whether anything else is to be put in order.
const TIDY: Duration = Duration::from_secs(30);

/// Removes what has expired, batch by batch, and tells how much that was.
pub(crate) async fn sweep(core: &Core) -> Result<u64> {
    let mut swept = 0;
    loop {
        let rows = core.write(&core.sql.sweep, &[&BATCH], Effect::None).await?;
        let Some(row) = rows.first() else { return Ok(swept) };
        let (gone, due): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        swept += gone.unsigned_abs();
        // One that was due may have been written meanwhile, and be neither gone nor moved.
        if due < BATCH {
            return Ok(swept);
        }
    }
}

/// Puts in order what others may have left. What fails now is tried again in the next round.
pub(crate) async fn tidy(core: &Core) {
    let _ = message::forget_old(core).await;
    let _ = watch::quieten(core).await;
}

/// Sweeps again and again until the store is closed or dropped.
pub(crate) async fn keep_sweeping(core: Arc<Core>) {
    let stopped = until_stopped(core.home.stopped());
    let sweeping = async {
        let mut since_tidied = Duration::ZERO;
        loop {
            SystemClock.sleep(core.sweep_interval).await;
            // What fails now is tried again in the next round.
            let _ = sweep(&core).await;
            since_tidied = since_tidied.saturating_add(core.sweep_interval);
            if since_tidied >= TIDY {
                since_tidied = Duration::ZERO;
                tidy(&core).await;
            }
        }
    };
    tokio::select! {
        () = stopped => {}
        () = sweeping => {}
    }
}
