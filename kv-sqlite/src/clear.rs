//! Clearing a prefix.
//!
//! A clear runs as a series of bounded batches, so that other writes can run between the batches.

use std::ops::Bound;

use kv_core::{ErrorKind, KeyPrefix, Result};
use rusqlite::params;

use crate::codec::RawText;
use crate::error::Failure;
use crate::free_pages;
use crate::state::State;
use crate::statement::{Columns, ListShape, bound_text};
use crate::sweep::{MAX_BYTES, MAX_ROWS};
use crate::writer::job::Write;
use crate::writer::rows::Rows;

impl State {
    /// Removes all entries under a prefix and returns the number of live entries removed.
    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let queue = self.queue()?;
        let (first, end) = prefix.range();
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(RawText::new(&end)));
        let (mut live, mut start) = (0, Bound::Included(RawText::new(first)));
        let mut max_rows = MAX_ROWS;
        loop {
            let batch = ClearBatch { start: start.clone(), end: end.clone(), max_rows };
            let cleared = match queue.call(batch).await {
                // A smaller batch needs less free space for the write-ahead log.
                Err(error) if error.kind() == ErrorKind::Capacity && max_rows > 1 => {
                    max_rows = max_rows.div_ceil(8);
                    continue;
                }
                cleared => cleared?,
            };
            live += cleared.live;
            match cleared.next {
                Some(key) => start = Bound::Excluded(key),
                None => break,
            }
        }
        if live > 0 {
            free_pages::release(queue).await?;
        }
        Ok(live)
    }
}

/// One batch of a clear: removes up to `max_rows` rows of the range.
#[derive(Debug)]
struct ClearBatch {
    start: Bound<RawText>,
    end: Bound<RawText>,
    max_rows: usize,
}

#[derive(Debug)]
struct Cleared {
    live: u64,
    /// The key after which the next batch continues; `None` if the clear is complete.
    next: Option<RawText>,
}

impl Write for ClearBatch {
    type Outcome = Cleared;

    fn apply(&self, rows: &Rows<'_>) -> Result<Cleared, Failure> {
        let (mut live, mut bytes, mut next) = (0, 0, None);
        for (index, (key, length)) in self.keys(rows)?.into_iter().enumerate() {
            bytes += length;
            // A key that does not parse is foreign or damaged. Its row is kept.
            if let Some(key) = key.to_key() {
                live += u64::from(rows.remove(&key)?);
            }
            if bytes >= MAX_BYTES || index + 1 == self.max_rows {
                next = Some(key);
                break;
            }
        }
        Ok(Cleared { live, next })
    }
}

impl ClearBatch {
    /// Returns the keys of the batch, each with the length of its value in bytes.
    fn keys(&self, rows: &Rows<'_>) -> Result<Vec<(RawText, i64)>, Failure> {
        let shape = ListShape { reverse: false, columns: Columns::Length };
        let mut statement = rows.connection.prepare_cached(&rows.sql.list(shape, &self.start, &self.end))?;
        let limit = i64::try_from(self.max_rows).unwrap_or(1);
        let keys = statement.query_map(params![bound_text(&self.start), bound_text(&self.end), limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }
}
