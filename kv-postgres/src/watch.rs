//! The triggers that report changes. They are disabled while no process watches, so that writers pay nothing then.
//!
//! A connection with watchers holds a shared advisory lock and enables the triggers. Enabling waits for
//! running writes, so every write that is acknowledged later is reported. The housekeeping of any process disables the
//! triggers if it gets the lock exclusively, and holds that lock meanwhile.

use kv_core::Result;
use kv_core::adapter::Effect;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::listen_connection::round_trip;
use crate::schema::{Table, WATCH_LOCK};
use crate::state::{State, column};
use crate::statement::Sql;

/// Retries of enabling the triggers while other sessions hold locks of the table.
const MAX_RETRIES: usize = 5;

/// Makes the triggers report every later write. Takes the watchers' lock on the connection of `client`.
pub(crate) async fn enable(client: &Client, state: &State) -> Result<()> {
    let timeout = state.connections.timeout;
    let lock = format!("SELECT pg_advisory_lock_shared({WATCH_LOCK}, {})", state.table.number());
    round_trip(timeout, client.batch_execute(&lock)).await?;
    let parameters = [(&state.table.qualified() as &(dyn ToSql + Sync), Type::TEXT)];
    let mut retries = 0;
    loop {
        let is_enabled = round_trip(timeout, client.query_typed_one(IS_ENABLED, &parameters)).await?;
        if column(&is_enabled, 0)? {
            return Ok(());
        }
        let sql = format!("SET LOCAL lock_timeout = '2s'; {}", alter_triggers(&state.table, "ENABLE"));
        match round_trip(timeout, client.batch_execute(&sql)).await {
            Err(error) if error.is_retryable() && retries < MAX_RETRIES && !client.is_closed() => retries += 1,
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
}

const IS_ENABLED: &str = "SELECT coalesce(bool_and(tgenabled <> 'D'), false) FROM pg_catalog.pg_trigger \
                          WHERE tgrelid = to_regclass($1) AND tgname LIKE 'anykv tell%'";

fn alter_triggers(table: &Table, action: &str) -> String {
    let t = table.qualified();
    Table::TRIGGERS.map(|trigger| format!("ALTER TABLE {t} {action} TRIGGER {trigger}")).join("; ")
}

/// Disables the triggers if no process watches any more.
pub(crate) async fn disable_unused(state: &State) -> Result<()> {
    let sql = Sql::new(IS_ENABLED, &[Type::TEXT]);
    let rows = state.read(&sql, &[&state.table.qualified()]).await?;
    let is_enabled = rows.first().map_or(Ok(false), |row| column(row, 0))?;
    if !is_enabled {
        return Ok(());
    }
    let number = state.table.number();
    let sql = format!(
        "SET LOCAL lock_timeout = '100ms'; DO $disable$ BEGIN \
         IF pg_try_advisory_xact_lock({WATCH_LOCK}, {number}) THEN {}; END IF; END $disable$",
        alter_triggers(&state.table, "DISABLE")
    );
    let mut connection = state.connections.get().await.map_err(|fault| fault.into_error(Effect::Read))?;
    connection.execute(&sql).await.map_err(|fault| fault.into_error(Effect::Read))
}
