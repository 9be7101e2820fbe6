//! The capabilities of a store.
//!
//! The durability depends on the settings of the server.

use std::time::Duration;

use kv_core::{Capabilities, Durability, List, Reach, Result, Survives, Transactions};
use tokio_postgres::types::Type;

use crate::state::{State, column};
use crate::statement::Sql;

/// The capabilities of a store that receives no notifications, because it is behind a pooler or uses the application's
/// pool, and has no `listen_url`.
pub const POOLED_CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Power));

/// The capabilities of a store that receives notifications, on a server with PostgreSQL's default durability.
pub const CAPABILITIES: Capabilities =
    POOLED_CAPABILITIES.with_watch(Reach::Shared).with_watch_expiry().with_sinks().with_messages(Reach::Shared);

/// Returns the durability of an acknowledged write, from the settings of the store's sessions and the kind of the
/// table.
pub(crate) async fn durability(state: &State) -> Result<Durability> {
    let sql = Sql::new(
        "SELECT current_setting('fsync')::bool AND current_setting('full_page_writes')::bool, \
         current_setting('synchronous_commit') <> 'off', \
         (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'), \
         (SELECT relpersistence = 'p' FROM pg_catalog.pg_class WHERE oid = to_regclass($1))",
        &[Type::TEXT],
    );
    let rows = state.read(&sql, &[&state.table.qualified()]).await?;
    let Some(row) = rows.first() else { return Ok(Durability::VOLATILE) };
    let (is_flushed, is_synchronous): (bool, bool) = (column(row, 0)?, column(row, 1)?);
    let (delay, is_logged): (Option<i64>, Option<bool>) = (column(row, 2)?, column(row, 3)?);
    if is_logged != Some(true) {
        return Ok(Durability::surviving(Survives::Process));
    }
    let survives = if is_flushed { Survives::Power } else { Survives::Server };
    if is_synchronous {
        return Ok(Durability::surviving(survives));
    }
    // PostgreSQL documents that a crash loses at most the commits within three times `wal_writer_delay`.
    let delay = Duration::from_millis(delay.unwrap_or(200).unsigned_abs());
    Ok(Durability::surviving(survives).with_interval(delay * 3))
}
