//! Returning free pages to the file system.

use kv_core::{ErrorKind, Result};

use crate::error::Failure;
use crate::writer::job::Write;
use crate::writer::queue::Queue;
use crate::writer::rows::Rows;

/// The maximum number of pages that one batch returns.
const MAX_PAGES: i64 = 2_000;

/// The number of free pages that the file keeps, whatever its size is.
const MIN_FREE_PAGES: i64 = 256;

/// Returns free pages to the file system if they are more than a quarter of the file. Fewer free pages stay in the
/// file, because new entries will soon use them.
///
/// If the disk is full, a batch returns fewer pages, because each page that SQLite moves needs free space for the
/// write-ahead log. If the disk has no space even for one page, this function succeeds nevertheless, because the
/// entries of the caller are already removed.
pub(crate) async fn release(queue: &Queue) -> Result<()> {
    let mut max_pages = MAX_PAGES;
    loop {
        match queue.call(ReleasePages { max_pages }).await {
            Ok(true) => {}
            Err(error) if error.kind() == ErrorKind::Capacity && max_pages > 1 => max_pages = (max_pages / 8).max(1),
            Err(error) if error.kind() == ErrorKind::Capacity => return Ok(()),
            outcome => return outcome.map(|_| ()),
        }
    }
}

#[derive(Debug)]
struct ReleasePages {
    max_pages: i64,
}

impl Write for ReleasePages {
    /// True if another batch should return more pages.
    type Outcome = bool;

    fn apply(&self, rows: &Rows<'_>) -> Result<bool, Failure> {
        let count = |pragma: &str| rows.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (free, all) = (count("PRAGMA freelist_count")?, count("PRAGMA page_count")?);
        if free <= MIN_FREE_PAGES || free <= all / 4 {
            return Ok(false);
        }
        let mut statement = rows.connection.prepare(&format!("PRAGMA incremental_vacuum({})", self.max_pages))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        let left = count("PRAGMA freelist_count")?;
        // `left < free` ends the loop if SQLite cannot return any page.
        Ok(left < free && left > MIN_FREE_PAGES && left > all / 4)
    }
}
