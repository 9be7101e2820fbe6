//! Sweeping expired entries.
//!
//! A sweep runs as a series of bounded batches, so that other writes can run between them.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kv_core::{Clock, Deadline, ErrorKind, Result};
use rusqlite::{OptionalExtension, params};

use crate::codec::{RawText, deadline_check};
use crate::error::{Failure, read_error};
use crate::free_pages;
use crate::readers::Readers;
use crate::state::State;
use crate::statement::Statements;
use crate::writer::job::Write;
use crate::writer::queue::{Queue, WeakQueue};
use crate::writer::rows::Rows;

/// The maximum number of rows that one batch removes.
pub(crate) const MAX_ROWS: usize = 1_000;

/// The number of bytes of removed values after which a batch ends. This limit bounds the time of a batch, because
/// removing a value visits all pages of the value.
pub(crate) const MAX_BYTES: i64 = 16 << 20;

/// A position in the index of deadlines: a deadline in milliseconds and a key.
type Position = (i64, RawText);

impl State {
    pub(crate) async fn sweep(&self) -> Result<u64> {
        sweep(self.queue()?).await
    }
}

/// One batch of a sweep. It removes due entries in the order of the index of deadlines, and skips an entry whose
/// deadline does not match its checksum.
#[derive(Debug)]
struct SweepBatch {
    /// The position after which the batch begins.
    after: Position,
    max_rows: usize,
}

#[derive(Debug)]
struct Swept {
    removed: u64,
    /// The position after which the next batch continues; `None` if the sweep is complete.
    next: Option<Position>,
}

impl Write for SweepBatch {
    type Outcome = Swept;

    fn apply(&self, rows: &Rows<'_>) -> Result<Swept, Failure> {
        let due = self.due(rows)?;
        let (mut removed, mut bytes, mut next) = (0, 0, None);
        for (index, (key, deadline, check, length)) in due.into_iter().enumerate() {
            bytes += length;
            let checked = key.to_key().filter(|key| {
                let stored = Deadline::from_millis(u64::try_from(deadline).unwrap_or_default());
                i64::from(deadline_check(key, stored)) == check
            });
            if let Some(key) = checked
                && rows.remove_due(&key, deadline)?
            {
                removed += 1;
            }
            if bytes >= MAX_BYTES || index + 1 == self.max_rows {
                next = Some((deadline, key));
                break;
            }
        }
        Ok(Swept { removed, next })
    }
}

impl SweepBatch {
    /// Returns the key, the deadline, the checksum of the deadline and the length of the value of each due row.
    fn due(&self, rows: &Rows<'_>) -> Result<Vec<(RawText, i64, i64, i64)>, Failure> {
        let (deadline, key) = &self.after;
        let limit = i64::try_from(self.max_rows).unwrap_or(1);
        let mut statement = rows.connection.prepare_cached(&rows.sql.due)?;
        let due = statement.query_map(params![now_column(rows.now), deadline, key, limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        Ok(due.collect::<rusqlite::Result<_>>()?)
    }
}

fn now_column(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Removes all due entries and returns the number of removed entries.
async fn sweep(queue: &Queue) -> Result<u64> {
    let (mut removed, mut next) = (0, Some((-1, RawText::default())));
    let mut max_rows = MAX_ROWS;
    while let Some(after) = next {
        let swept = match queue.call(SweepBatch { after: after.clone(), max_rows }).await {
            // A smaller batch needs less free space for the write-ahead log.
            Err(error) if error.kind() == ErrorKind::Capacity && max_rows > 1 => {
                max_rows = max_rows.div_ceil(8);
                next = Some(after);
                continue;
            }
            swept => swept?,
        };
        removed += swept.removed;
        next = swept.next;
    }
    if removed > 0 {
        free_pages::release(queue).await?;
    }
    Ok(removed)
}

/// Sweeps at every interval if an entry is due, until the store is dropped.
pub(crate) async fn run_sweeper(
    clock: Arc<dyn Clock>,
    interval: Duration,
    readers: Weak<Readers>,
    queue: WeakQueue,
    sql: Arc<Statements>,
) {
    loop {
        clock.sleep(interval).await;
        let (Some(readers), Some(queue)) = (readers.upgrade(), queue.upgrade()) else { return };
        let now = now_column(clock.now());
        // A reader checks first, so that a store without due entries does not take the write lock at every interval.
        let is_due = readers.with(|connection| {
            let mut statement = connection.prepare_cached(&sql.is_due).map_err(read_error)?;
            statement.query_row([now], |_| Ok(())).optional().map_err(read_error)
        });
        drop(readers);
        if let Ok(Some(())) = is_due {
            // After a failed sweep the remaining entries are still due at the next interval.
            let _ = sweep(&queue).await;
        }
    }
}
