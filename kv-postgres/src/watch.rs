//! Watching changes.
//!
//! Triggers report changes. They fire in every session (`ENABLE ALWAYS`), also in sessions that apply the changes of a
//! replication. While no process watches, the triggers are disabled, so that they do not slow down writers.
//! A connection with watchers holds the watchers' advisory lock, which is shared, and enables the triggers. Enabling
//! the triggers waits for running writes, so every write that is acknowledged later is reported. The housekeeping of
//! any process disables the triggers if it gets the lock exclusively, and holds the lock until the triggers are
//! disabled.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Capability, ChangeSink, Error, KvStore, Registration, Result, WatchQuery, WatchStream, WatchTarget};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::read_error;
use crate::heartbeat::{self, Proof};
use crate::listen_connection::round_trip;
use crate::listen_request::Need;
use crate::schema::{Table, WATCH_LOCK};
use crate::state::{State, column};
use crate::statement::Sql;

/// Watches changes. The returned stream reads entries from `store`.
pub(crate) async fn watch(state: &State, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
    state.check_open()?;
    query.check(&state.info.capabilities)?;
    let inbox = state.watchers.changes.subscribe(query.target.clone());
    state.listen(Need::Changes).await?;
    Ok(kv_core::follow(store, query.clone(), inbox))
}

/// Registers a sink. The sink is current after the next heartbeat, which is sent at once.
pub(crate) async fn watch_into(state: &State, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
    state.check_open()?;
    state.info.capabilities.require(Capability::Sinks)?;
    let registration = state.watchers.changes.attach(target.clone(), sink, None);
    let counted = state.watchers.count_sink();
    state.listen(Need::CurrentChanges).await?;
    Ok(Registration::new((registration, counted)))
}

/// Takes the watchers' lock on the connection of `client`, and enables the triggers, so that they report every later
/// write. While other sessions hold locks on the table, tries again until the operation timeout. Returns the state of the
/// enabled triggers.
///
/// While an attempt waits for its table lock, new writers queue behind it. Therefore an attempt waits at most as long
/// as a writer waits for a lock.
pub(crate) async fn enable(client: &Client, state: &State) -> Result<Proof> {
    let timeout = state.connections.timeout;
    let deadline = Instant::now() + timeout;
    let lock = format!("SELECT pg_advisory_lock_shared({WATCH_LOCK}, {})", state.table.number());
    round_trip(timeout, client.batch_execute(&lock)).await?;
    // The server must end an attempt before its round trip times out, because the connection then stays usable.
    let lock_timeout = state.lock_timeout.min(timeout / 2).max(Duration::from_millis(1));
    let milliseconds = lock_timeout.as_millis();
    let sql = format!("SET LOCAL lock_timeout = {milliseconds}; {}", alter_triggers(&state.table, "ENABLE ALWAYS"));
    loop {
        let proof = heartbeat::prove(client, state, None).await?;
        if proof.is_enabled {
            return Ok(proof);
        }
        if proof.table.is_none() {
            return Err(Error::unavailable("the table was dropped"));
        }
        match round_trip(timeout, client.batch_execute(&sql)).await {
            Err(error) if !error.is_retryable() || client.is_closed() || Instant::now() + lock_timeout > deadline => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The query that returns true if the triggers of the table fire in any session.
const IS_ENABLED: &str = "SELECT coalesce(bool_and(tgenabled <> 'D'), false) FROM pg_catalog.pg_trigger \
                          WHERE tgrelid = to_regclass($1) AND tgname LIKE 'anykv tell%'";

/// Returns the statements that enable or disable the triggers.
fn alter_triggers(names: &Table, action: &str) -> String {
    let table = names.qualified();
    Table::TRIGGERS.map(|trigger| format!("ALTER TABLE {table} {action} TRIGGER {trigger}")).join("; ")
}

/// Disables the triggers if no process watches.
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
    let mut connection = state.connections.get().await.map_err(read_error)?;
    connection.execute(&sql).await.map_err(read_error)
}
