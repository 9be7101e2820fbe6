//! Clearing a prefix.
//!
//! A clear removes a range of the primary key, in statements of a bounded size.

use kv_core::adapter::Effect;
use kv_core::{Error, KeyPrefix, Result};

use crate::state::{State, column};

/// The maximum number of rows that one statement removes.
const MAX_ROWS: i64 = 2_000;

/// Removes all keys under a prefix, and returns the number of removed live entries.
///
/// # Errors
/// `Indeterminate` if a statement fails with a retryable error after earlier statements have removed live entries.
pub(crate) async fn clear(state: &State, prefix: &KeyPrefix) -> Result<u64> {
    let (start, end) = prefix.range();
    let mut start = start.to_owned();
    let mut cleared = 0;
    loop {
        let sql = state.sql.clear(end.is_some());
        let rows = state.write(sql, &[&start, &end, &MAX_ROWS], Effect::Write(None)).await;
        let indeterminate = |error: Error| Error::indeterminate(None, error.message().to_owned()).with_source(error);
        let rows =
            rows.map_err(|error| if cleared > 0 && error.is_retryable() { indeterminate(error) } else { error })?;
        let Some(row) = rows.first() else { return Ok(cleared) };
        let (live, found, last): (i64, i64, Option<&str>) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
        cleared += live.unsigned_abs();
        match last {
            // No stored text is between `last` and this start, because PostgreSQL stores no NUL in text.
            Some(last) if found == MAX_ROWS => start = format!("{last}\u{1}"),
            _ => return Ok(cleared),
        }
    }
}
