//! Connections from the pool, and round trips with timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType, Timeouts};
use kv_core::adapter::Effect;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Cause, Failure};
use crate::permits::Permits;
use crate::runtime::mark_sent;
use crate::server::PoolServer;
use crate::statement::Sql;

/// The maximum number of retries of a statement that the server rolled back because of a conflict with another
/// transaction.
const MAX_CONFLICT_RETRIES: usize = 10;

/// The maximum number of retries of a statement whose connection was lost, if a retry is safe.
const MAX_CONNECTION_RETRIES: usize = 2;

/// The pool, and the settings for calls on its connections.
pub(crate) struct Connections {
    pub(crate) pool: Pool,
    /// One permit for each connection that a call uses.
    pub(crate) permits: Permits,
    /// True if the configuration makes all sessions of the store read-only.
    pub(crate) is_read_only: AtomicBool,
    /// True if statements are sent unprepared, because there is a transaction pooler.
    pub(crate) pooled: bool,
    /// The timeout of a round trip.
    pub(crate) timeout: Duration,
    /// The TLS settings for cancel requests. `None` for a pool that the application passed in.
    pub(crate) canceller: Option<MakeRustlsConnect>,
    /// The server of the store's own connections. `None` if an application or a pooler makes the connections.
    pub(crate) server: Option<Arc<PoolServer>>,
}

/// The parameters of a statement.
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

impl Connections {
    /// Takes a connection from the pool, or opens one. If the server accepts no more connections, waits for an existing
    /// connection.
    pub(crate) async fn get(&self) -> Result<Connection<'_>, Failure> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let permit = self.permits.acquire(deadline).await?;
            match self.object().await {
                Ok(object) => {
                    return Ok(Connection {
                        connections: self,
                        object: Some(object),
                        is_busy: false,
                        is_in_transaction: false,
                        permit: Some(permit),
                    });
                }
                Err(failure) if !failure.is_connection_limit() => return Err(failure),
                Err(failure) => {
                    if !self.permits.withhold(permit, self.pool.status().size) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn object(&self) -> Result<Object, Failure> {
        loop {
            let object = self.any_object().await?;
            match &self.server {
                Some(server) if !server.accepts(Object::metrics(&object).created) => drop(Object::take(object)),
                _ => return Ok(object),
            }
        }
    }

    async fn any_object(&self) -> Result<Object, Failure> {
        let result = if self.canceller.is_some() {
            // A wait for the pool is rare, and a timeout of zero needs no timer. Therefore first try without a wait.
            let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
            match self.pool.timeout_get(&at_once).await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => self.pool.get().await,
                result => result,
            }
        } else {
            // The application's pool may have no timeouts.
            let result = tokio::time::timeout(self.timeout, self.pool.get()).await;
            result.unwrap_or_else(|_| Err(self.timeout_error()))
        };
        result.map_err(Failure::from_pool)
    }

    /// Returns the error of a pool timeout. The kind of the error distinguishes a pool whose connections are all in use
    /// from a pool that did not open a connection in time.
    pub(crate) fn timeout_error(&self) -> PoolError {
        let status = self.pool.status();
        let is_full = status.size >= status.max_size;
        PoolError::Timeout(if is_full { TimeoutType::Wait } else { TimeoutType::Create })
    }

    /// Runs a statement in a separate transaction. Retries the statement if the server rolled it back because of a
    /// conflict.
    pub(crate) async fn write(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Failure> {
        self.send(sql, params, Effect::Write(None)).await
    }

    /// Runs a statement that changes nothing. Retries the statement after a conflict and after the loss of its
    /// connection.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Failure> {
        self.send(sql, params, Effect::Read).await
    }

    async fn send(&self, sql: &Sql, params: Params<'_>, effect: Effect) -> Result<Vec<Row>, Failure> {
        let (mut conflict_retries, mut connection_retries) = (0, 0);
        loop {
            let mut connection = self.get().await?;
            let failure = match connection.query(sql, params).await {
                Ok(rows) => return Ok(rows),
                Err(failure) => failure,
            };
            drop(connection);
            if conflict_retries < MAX_CONFLICT_RETRIES && (failure.is_conflict() || failure.is_stale_statement()) {
                conflict_retries += 1;
            } else if connection_retries < MAX_CONNECTION_RETRIES && failure.is_retryable_connection_loss(effect) {
                connection_retries += 1;
            } else {
                return Err(failure);
            }
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The `Debug` output of the pool contains the password.
        f.debug_struct("Connections")
            .field("pooled", &self.pooled)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A connection for one call. The connection goes back to the pool only if the server has answered every request, and
/// no transaction is open.
pub(crate) struct Connection<'c> {
    connections: &'c Connections,
    object: Option<Object>,
    /// True while a request is unanswered, and after a failure that makes the connection unusable.
    is_busy: bool,
    is_in_transaction: bool,
    /// Declared last, so that the permit is released after `object` has gone back to the pool.
    permit: Option<SemaphorePermit<'c>>,
}

impl<'c> Connection<'c> {
    /// Sends a statement and waits for its rows.
    pub(crate) async fn query(&mut self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Failure> {
        let Some(object) = &self.object else { return Err(Failure::NotSent(Cause::Closed)) };
        self.is_busy = true;
        mark_sent();
        let mut is_sent = false;
        let round_trip = async {
            if self.connections.pooled {
                is_sent = true;
                let typed: Vec<_> = params.iter().copied().zip(sql.types.iter().cloned()).collect();
                return object.query_typed(&sql.text, &typed).await.map_err(Failure::from_statement);
            }
            let statement = object.prepare_typed_cached(&sql.text, &sql.types).await.map_err(Failure::from_prepare)?;
            is_sent = true;
            object.query(&statement, params).await.map_err(Failure::from_statement)
        };
        let done = match tokio::time::timeout(self.connections.timeout, round_trip).await {
            Ok(done) => done,
            Err(_) if is_sent => Err(Failure::Unanswered(Cause::Timeout)),
            Err(_) => Err(Failure::NotSent(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Runs SQL without parameters, in one round trip.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        let Some(object) = &self.object else { return Err(Failure::NotSent(Cause::Closed)) };
        self.is_busy = true;
        mark_sent();
        let done = match tokio::time::timeout(self.connections.timeout, object.batch_execute(sql)).await {
            Ok(done) => done.map_err(Failure::from_statement),
            Err(_) => Err(Failure::Unanswered(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Closes the connection, so that the pool does not keep it. Returns its permit.
    pub(crate) fn close(mut self) -> Option<SemaphorePermit<'c>> {
        drop(self.object.take().map(Object::take));
        self.permit.take()
    }

    /// Marks the connection as inside a transaction. The connection does not go back to the pool before
    /// [`Self::leave_transaction`].
    pub(crate) fn enter_transaction(&mut self) {
        self.is_in_transaction = true;
    }

    /// Marks the transaction as ended.
    pub(crate) fn leave_transaction(&mut self) {
        self.is_in_transaction = false;
    }

    /// Updates the connection after the result of a request.
    fn settle<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        let is_read_only = self.connections.is_read_only.load(Ordering::Relaxed);
        let done =
            done.map_err(|failure| if is_read_only && failure.is_read_only() { Failure::ReadOnly } else { failure });
        self.is_busy = done.as_ref().is_err_and(|failure| !failure.keeps_connection());
        if matches!(done, Err(Failure::Unanswered(Cause::Timeout) | Failure::NotSent(Cause::Timeout))) {
            // The cause of this timeout probably affects the idle connections of the pool as well, so drop them.
            self.connections.pool.retain(|_, _| false);
        }
        done
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if !self.is_busy && !self.is_in_transaction {
            return;
        }
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        // Without a cancel request, the server would continue a statement whose result no caller reads.
        if let (false, Some(tls), Ok(runtime)) =
            (client.is_closed(), self.connections.canceller.clone(), tokio::runtime::Handle::try_current())
        {
            let (token, timeout) = (client.cancel_token(), self.connections.timeout);
            runtime.spawn(async move {
                // If the server cannot be reached, its own `statement_timeout` ends the statement.
                let _ = tokio::time::timeout(timeout, token.cancel_query(tls)).await;
            });
        }
    }
}
