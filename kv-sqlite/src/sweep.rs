//! Removing what has expired, and what a prefix covers: both in bounded batches, each a write among the others.

use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kv_core::{Clock, Deadline, Key, KeyPrefix, Result};
use rusqlite::{OptionalExtension, params};

use crate::batch::Batch;
use crate::codec::deadline_check;
use crate::error::{self, Abort};
use crate::queue::{Queue, WeakQueue};
use crate::reader::Readers;
use crate::statement::{Columns, ListShape, Statements};
use crate::write::Write;

/// How many rows one batch removes.
const MAX_ROWS: usize = 1_000;

/// A batch ends when it has removed this many bytes of values: freeing a value walks all its pages.
const MAX_BYTES: i64 = 16 << 20;

/// How many free pages one batch gives back to the file system.
const MAX_PAGES: i64 = 2_000;

/// So many free pages are kept whatever the size of the file is.
const FEW_PAGES: i64 = 256;

/// Where a run of batches goes on: behind this deadline and key.
type Place = (i64, String);

/// One batch of the sweep. It goes by the index of deadlines, and trusts no deadline that does not match its check.
#[derive(Debug)]
struct Sweep {
    from: Place,
}

#[derive(Debug)]
struct Swept {
    removed: u64,
    next: Option<Place>,
}

impl Write for Sweep {
    type Outcome = Swept;

    fn apply(&self, batch: &Batch<'_>) -> Result<Swept, Abort> {
        let due = self.due(batch)?;
        let (mut removed, mut bytes, mut next) = (0, 0, None);
        for (place, (key, deadline, check, length)) in due.into_iter().enumerate() {
            bytes += length;
            let checked = Key::parse_stored(&key).ok().filter(|key| {
                let stored = Deadline::from_millis(u64::try_from(deadline).unwrap_or_default());
                i64::from(deadline_check(key, stored)) == check
            });
            if let Some(key) = checked
                && batch.remove_due(&key, deadline)?
            {
                removed += 1;
            }
            if bytes >= MAX_BYTES || place + 1 == MAX_ROWS {
                next = Some((deadline, key));
                break;
            }
        }
        Ok(Swept { removed, next })
    }
}

impl Sweep {
    fn due(&self, batch: &Batch<'_>) -> Result<Vec<(String, i64, i64, i64)>, Abort> {
        let (deadline, key) = &self.from;
        let mut statement = batch.connection.prepare_cached(&batch.sql.due)?;
        let rows = statement
            .query_map(params![now_column(batch.now), deadline, key, i64::try_from(MAX_ROWS).unwrap_or(1)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Returns free pages to the file system where they are more than a quarter of the file; fewer are soon used again.
#[derive(Debug)]
struct GiveBack;

impl Write for GiveBack {
    /// Whether more are to be returned.
    type Outcome = bool;

    fn apply(&self, batch: &Batch<'_>) -> Result<bool, Abort> {
        let count = |pragma: &str| batch.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (free, all) = (count("PRAGMA freelist_count")?, count("PRAGMA page_count")?);
        if free <= FEW_PAGES || free <= all / 4 {
            return Ok(false);
        }
        let mut statement = batch.connection.prepare(&format!("PRAGMA incremental_vacuum({MAX_PAGES})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        let left = count("PRAGMA freelist_count")?;
        // A database that gives nothing back is not asked for ever.
        Ok(left < free && left > FEW_PAGES && left > all / 4)
    }
}

fn now_column(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Removes everything that has expired by now and tells how much it was.
pub(crate) async fn sweep(queue: &Queue) -> Result<u64> {
    let (mut removed, mut from) = (0, Some((-1, String::new())));
    while let Some(place) = from {
        let swept = queue.call(Sweep { from: place }).await?;
        removed += swept.removed;
        from = swept.next;
    }
    if removed > 0 {
        give_back(queue).await?;
    }
    Ok(removed)
}

async fn give_back(queue: &Queue) -> Result<()> {
    while queue.call(GiveBack).await? {}
    Ok(())
}

/// Sweeps whenever something is due, until the store is dropped.
pub(crate) async fn keep_sweeping(
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
        // Asked of a reader first: a store in which nothing expires is not locked every second.
        let is_due = readers.with(|connection| {
            let mut statement = connection.prepare_cached(&sql.is_due).map_err(error::read)?;
            statement.query_row([now], |_| Ok(())).optional().map_err(error::read)
        });
        drop(readers);
        if let Ok(Some(())) = is_due {
            // What fails now is due again the next time.
            let _ = sweep(&queue).await;
        }
    }
}

/// One batch of a clear.
#[derive(Debug)]
struct Clear {
    start: Bound<String>,
    end: Bound<String>,
}

#[derive(Debug)]
struct Cleared {
    live: u64,
    next: Option<String>,
}

impl Write for Clear {
    type Outcome = Cleared;

    fn apply(&self, batch: &Batch<'_>) -> Result<Cleared, Abort> {
        let (mut live, mut bytes, mut next) = (0, 0, None);
        for (place, (key, length)) in self.keys(batch)?.into_iter().enumerate() {
            bytes += length;
            // A key that cannot be read as one is not ours, or damaged: it stays.
            if let Ok(key) = Key::parse_stored(&key) {
                live += u64::from(batch.remove(&key)?);
            }
            if bytes >= MAX_BYTES || place + 1 == MAX_ROWS {
                next = Some(key);
                break;
            }
        }
        Ok(Cleared { live, next })
    }
}

impl Clear {
    fn keys(&self, batch: &Batch<'_>) -> Result<Vec<(String, i64)>, Abort> {
        let shape = ListShape { reverse: false, columns: Columns::Length };
        let mut statement = batch.connection.prepare_cached(&batch.sql.list(shape, &self.start, &self.end))?;
        let limit = i64::try_from(MAX_ROWS).unwrap_or(1);
        let rows = statement.query_map(params![end_text(&self.start), end_text(&self.end), limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// An end of a range as a parameter; where there is none, the statement does not name it.
pub(crate) fn end_text(end: &Bound<String>) -> Option<&str> {
    match end {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

/// Removes everything under a prefix and tells how many live entries went.
pub(crate) async fn clear(queue: &Queue, prefix: &KeyPrefix) -> Result<u64> {
    let (first, end) = prefix.range();
    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut live, mut start) = (0, Bound::Included(first.to_owned()));
    loop {
        let cleared = queue.call(Clear { start, end: end.clone() }).await?;
        live += cleared.live;
        match cleared.next {
            Some(key) => start = Bound::Excluded(key),
            None => break,
        }
    }
    if live > 0 {
        give_back(queue).await?;
    }
    Ok(live)
}
