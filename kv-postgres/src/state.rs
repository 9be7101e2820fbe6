//! The state that all handles and tasks of a store share.

use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Error, Result, StoreInfo};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::connection::{Connections, Params};
use crate::error::Fault;
use crate::estimate::ValueLength;
use crate::runtime::StoreRuntime;
use crate::schema::Table;
use crate::statement::{Sql, Statements};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) table: Table,
    pub(crate) sql: Statements,
    pub(crate) connections: Connections,
    pub(crate) runtime: StoreRuntime,
    pub(crate) value_length: ValueLength,
    pub(crate) changes: Hub<Changes>,
    pub(crate) messages: Hub<Messages>,
    pub(crate) sweep_interval: Duration,
}

impl State {
    /// Runs a statement that changes nothing, and retries it on a lost connection.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>> {
        self.connections.read(sql, params).await.map_err(|fault| fault.into_error(Effect::Read))
    }

    /// Runs a statement that changes something. `effect` decides the error of an unanswered statement.
    pub(crate) async fn write(&self, sql: &Sql, params: Params<'_>, effect: Effect) -> Result<Vec<Row>> {
        self.connections.write(sql, params).await.map_err(|fault| fault.into_error(effect))
    }

    /// Returns an error if the store is closed or its runtime has ended.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.runtime.check()
    }

    /// Refuses new calls, waits for running ones, and closes the hubs and the store's own pool.
    ///
    /// # Errors
    /// `Unavailable` if running calls exceed the operation timeout. The store is closed nevertheless.
    pub(crate) async fn close(&self) -> Result<()> {
        let is_drained = self.runtime.close(self.connections.timeout).await;
        self.close_hubs();
        // A pool that the application passed in belongs to the application.
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
        // The streams of subscribers do not keep the store alive. Without this they would wait forever.
        self.close_hubs();
    }

    fn close_hubs(&self) {
        self.changes.close();
        self.messages.close();
    }
}

/// Reads a column of a row.
///
/// # Errors
/// `Corrupt` if the column is missing or has another type.
pub(crate) fn column<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, Error> {
    row.try_get(index).map_err(|_| Fault::Shape.into_error(Effect::Read))
}
