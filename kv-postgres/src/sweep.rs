//! Sweeping expired entries.

use kv_core::Result;
use kv_core::adapter::Effect;
use tokio_postgres::types::Type;

use crate::state::{State, column};
use crate::statement::Sql;

/// The maximum number of due rows that one statement checks.
const MAX_ROWS: i64 = 1_000;

/// Returns the statement that checks a bounded number of due rows. The statement removes expired rows, moves
/// `sweep_after` of the other rows to their deadline, and skips rows that another session has locked. The statement
/// returns the number of removed rows and the number of due rows.
pub(crate) fn statement(table: &str) -> Sql {
    let text = format!(
        "WITH due AS MATERIALIZED (SELECT e.ctid AS row_id, e.expires_at, e.expires_at <= clock_timestamp() AS is_expired \
         FROM {table} e WHERE e.sweep_after <= (SELECT clock_timestamp()) ORDER BY e.sweep_after LIMIT $1 \
         FOR UPDATE SKIP LOCKED), \
         removed AS (DELETE FROM {table} AS e WHERE e.ctid = any(array(SELECT row_id FROM due WHERE is_expired)) RETURNING true), \
         moved AS (UPDATE {table} AS e SET sweep_after = e.expires_at \
         WHERE e.ctid = any(array(SELECT row_id FROM due WHERE is_expired IS NOT TRUE)) RETURNING true) \
         SELECT (SELECT count(*) FROM removed), (SELECT count(*) FROM due)"
    );
    Sql::new(text, &[Type::INT8])
}

/// Removes expired entries, and returns the number of removed entries.
pub(crate) async fn sweep(state: &State) -> Result<u64> {
    let mut swept = 0;
    loop {
        let rows = state.write(&state.sql.sweep, &[&MAX_ROWS], Effect::Read).await?;
        let Some(row) = rows.first() else { return Ok(swept) };
        let (removed, due): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        swept += removed.unsigned_abs();
        // The number of due rows ends the loop, instead of the number of removed rows, because a concurrent write can
        // prevent the removal of a due row.
        if due < MAX_ROWS {
            return Ok(swept);
        }
    }
}
