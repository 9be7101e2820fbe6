//! The return of free pages to the file system.

use kv_core::Result;

use crate::error::Abort;
use crate::writer::job::Write;
use crate::writer::queue::Queue;
use crate::writer::rows::Rows;

/// The number of pages that one batch returns.
const MAX_PAGES: i64 = 2_000;

/// The number of free pages that are kept, whatever the size of the file is.
const MIN_FREE_PAGES: i64 = 256;

/// Returns free pages if they are more than a quarter of the file. Fewer are soon used again.
pub(crate) async fn release(queue: &Queue) -> Result<()> {
    while queue.call(ReleasePages).await? {}
    Ok(())
}

#[derive(Debug)]
struct ReleasePages;

impl Write for ReleasePages {
    /// True if there are more pages to return.
    type Outcome = bool;

    fn apply(&self, rows: &Rows<'_>) -> Result<bool, Abort> {
        let count = |pragma: &str| rows.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (free, all) = (count("PRAGMA freelist_count")?, count("PRAGMA page_count")?);
        if free <= MIN_FREE_PAGES || free <= all / 4 {
            return Ok(false);
        }
        let mut statement = rows.connection.prepare(&format!("PRAGMA incremental_vacuum({MAX_PAGES})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        let left = count("PRAGMA freelist_count")?;
        // `left < free` ends the loop on a database that returns no pages.
        Ok(left < free && left > MIN_FREE_PAGES && left > all / 4)
    }
}
