//! The state that all clones of a store and its tasks share.

use std::sync::Arc;
use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Capability, Error, Result, StoreInfo};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::connection::{Connections, Params};
use crate::error::{Failure, read_error};
use crate::estimate::ValueLength;
use crate::listen_request::{Listener, Need};
use crate::runtime::StoreRuntime;
use crate::schema::Table;
use crate::statement::{Sql, Statements};
use crate::watchers::Watchers;

/// The state of an open store.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) table: Table,
    pub(crate) sql: Statements,
    pub(crate) connections: Arc<Connections>,
    pub(crate) runtime: StoreRuntime,
    pub(crate) value_length: ValueLength,
    pub(crate) watchers: Watchers,
    /// True if the tables for messages belong to the owner of the table.
    pub(crate) has_message_tables: bool,
    /// `None` if the store receives no notifications.
    pub(crate) listener: Option<Listener>,
    /// The timeout of the wait for a lock that another session holds.
    pub(crate) lock_timeout: Duration,
    pub(crate) sweep_interval: Duration,
}

impl State {
    /// Runs a statement that changes nothing. Retries the statement after a conflict and after the loss of its
    /// connection.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>> {
        self.connections.read(sql, params).await.map_err(read_error)
    }

    /// Runs a statement that changes something. `effect` decides the kind of the error if no response arrives.
    pub(crate) async fn write(&self, sql: &Sql, params: Params<'_>, effect: Effect) -> Result<Vec<Row>> {
        self.connections.write(sql, params).await.map_err(|failure| failure.into_error(effect))
    }

    /// Checks that the store is open and that its runtime has not ended.
    ///
    /// # Errors
    /// `Closed` after the store was closed, `Unavailable` after its runtime has ended.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.runtime.check()
    }

    /// Waits until the listener receives the needed notifications.
    ///
    /// # Errors
    /// `Unsupported` if the store receives no notifications, `Closed`, and the errors of the connection.
    pub(crate) async fn listen(&self, need: Need) -> Result<()> {
        let capability = if need == Need::Messages { Capability::Messages } else { Capability::Watch };
        let listener = self.listener.clone().ok_or_else(|| Error::unsupported(capability))?;
        // Connecting and the request to listen may take a timeout each.
        let timeout = self.connections.timeout.saturating_mul(2);
        self.runtime.run(Effect::Read, async move { listener.listen(need, timeout).await }).await
    }

    /// Refuses new calls, waits for running calls, and closes the hubs and the store's own pool.
    ///
    /// # Errors
    /// `Unavailable` if running calls exceed the operation timeout. The store is closed nevertheless.
    pub(crate) async fn close(&self) -> Result<()> {
        let is_drained = self.runtime.close(self.connections.timeout).await;
        self.watchers.close();
        // Only the store's own pool has a canceller. The application's pool stays open.
        if self.connections.canceller.is_some() {
            self.connections.pool.close();
        }
        if is_drained {
            Ok(())
        } else {
            Err(Error::unavailable("running calls did not end within the timeout; they finish in the background"))
        }
    }

    /// Stops the tasks of the store without waiting for them.
    pub(crate) fn stop(&self) {
        self.runtime.stop();
        // Closing the hubs ends the streams of subscribers. Otherwise these streams would wait forever.
        self.watchers.close();
    }
}

/// Reads a column of a row.
///
/// # Errors
/// `Corrupt` if the column is missing or has another type.
pub(crate) fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, Error> {
    row.try_get(index).map_err(|_| read_error(Failure::UnexpectedShape))
}
