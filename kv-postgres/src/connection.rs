//! Connections from the pool, and round trips with timeouts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType, Timeouts};
use kv_core::adapter::Effect;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Cause, Fault};
use crate::permits::Permits;
use crate::runtime::mark_sent;
use crate::statement::Sql;

/// Retries of a statement that the server rolled back because of a conflict with another transaction.
const MAX_CONFLICT_RETRIES: usize = 10;

/// Retries of a statement that lost its connection, where a retry is safe.
const MAX_CONNECTION_RETRIES: usize = 2;

/// The pool and its settings.
pub(crate) struct Connections {
    pub(crate) pool: Pool,
    /// One permit for each connection that a call uses.
    pub(crate) permits: Permits,
    /// True if the configuration of the sessions lets them never write.
    pub(crate) is_read_only: AtomicBool,
    /// True if statements are sent without being prepared, as a transaction pooler requires it.
    pub(crate) pooled: bool,
    /// The longest duration of a round trip.
    pub(crate) timeout: Duration,
    /// The TLS settings for cancel requests. `None` for a pool that the application passed in.
    pub(crate) canceller: Option<MakeRustlsConnect>,
}

/// The parameters of a statement.
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

impl Connections {
    /// Takes a connection from the pool, or opens one. If the server accepts no more connections, waits for one of those
    /// that exist.
    pub(crate) async fn get(&self) -> Result<Connection<'_>, Fault> {
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
                        _permit: permit,
                    });
                }
                Err(fault) if !fault.is_connection_limit() => return Err(fault),
                Err(fault) => {
                    if !self.permits.withhold(permit, self.pool.status().size) {
                        return Err(fault);
                    }
                }
            }
        }
    }

    async fn object(&self) -> Result<Object, Fault> {
        let got = if self.canceller.is_some() {
            // An idle connection is the usual case, and a zero timeout needs no timer.
            let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
            match self.pool.timeout_get(&at_once).await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => self.pool.get().await,
                got => got,
            }
        } else {
            // A pool of the application may have no timeouts.
            let got = tokio::time::timeout(self.timeout, self.pool.get()).await;
            got.unwrap_or_else(|_| Err(self.timeout_error()))
        };
        got.map_err(Fault::pool)
    }

    /// The cause of a pool timeout: all connections are in use, or the pool could not open one.
    pub(crate) fn timeout_error(&self) -> PoolError {
        let status = self.pool.status();
        let is_full = status.size >= status.max_size;
        PoolError::Timeout(if is_full { TimeoutType::Wait } else { TimeoutType::Create })
    }

    /// Runs one statement in a transaction of its own. Retries it if the server rolled it back because of a conflict.
    pub(crate) async fn write(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        self.send(sql, params, Effect::Write(None)).await
    }

    /// Runs a statement without effect. Retries it on a lost connection as well.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        self.send(sql, params, Effect::Read).await
    }

    async fn send(&self, sql: &Sql, params: Params<'_>, effect: Effect) -> Result<Vec<Row>, Fault> {
        let (mut conflict_retries, mut connection_retries) = (0, 0);
        loop {
            let mut connection = self.get().await?;
            let fault = match connection.query(sql, params).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            drop(connection);
            if conflict_retries < MAX_CONFLICT_RETRIES && (fault.is_conflict() || fault.is_stale_statement()) {
                conflict_retries += 1;
            } else if connection_retries < MAX_CONNECTION_RETRIES && fault.is_retryable_connection_loss(effect) {
                connection_retries += 1;
            } else {
                return Err(fault);
            }
        }
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The pool's own `Debug` shows its configuration, which contains the password.
        f.debug_struct("Connections")
            .field("pooled", &self.pooled)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A connection for one call. It goes back to the pool only if the server has answered every request.
pub(crate) struct Connection<'c> {
    connections: &'c Connections,
    object: Option<Object>,
    is_busy: bool,
    is_in_transaction: bool,
    /// Dropped after the connection has gone back to the pool.
    _permit: SemaphorePermit<'c>,
}

impl Connection<'_> {
    /// Sends a statement and waits for its rows.
    pub(crate) async fn query(&mut self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let Some(object) = &self.object else { return Err(Fault::Before(Cause::Closed)) };
        self.is_busy = true;
        mark_sent();
        let mut is_sent = false;
        let round_trip = async {
            if self.connections.pooled {
                is_sent = true;
                let typed: Vec<_> = params.iter().copied().zip(sql.types.iter().cloned()).collect();
                return object.query_typed(&sql.text, &typed).await.map_err(Fault::sent);
            }
            let statement = object.prepare_typed_cached(&sql.text, &sql.types).await.map_err(Fault::preparing)?;
            is_sent = true;
            object.query(&statement, params).await.map_err(Fault::sent)
        };
        let done = match tokio::time::timeout(self.connections.timeout, round_trip).await {
            Ok(done) => done,
            Err(_) if is_sent => Err(Fault::Unanswered(Cause::Timeout)),
            Err(_) => Err(Fault::Before(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Runs SQL without parameters, in one round trip.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<(), Fault> {
        let Some(object) = &self.object else { return Err(Fault::Before(Cause::Closed)) };
        self.is_busy = true;
        mark_sent();
        let done = match tokio::time::timeout(self.connections.timeout, object.batch_execute(sql)).await {
            Ok(done) => done.map_err(Fault::sent),
            Err(_) => Err(Fault::Unanswered(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Marks the connection as inside a transaction. It does not go back to the pool before
    /// [`Self::leave_transaction`].
    pub(crate) fn enter_transaction(&mut self) {
        self.is_in_transaction = true;
    }

    /// Marks the transaction as ended.
    pub(crate) fn leave_transaction(&mut self) {
        self.is_in_transaction = false;
    }

    fn settle<T>(&mut self, done: Result<T, Fault>) -> Result<T, Fault> {
        let is_read_only = self.connections.is_read_only.load(Ordering::Relaxed);
        let done = done.map_err(|fault| if is_read_only && fault.is_read_only() { Fault::ReadOnly } else { fault });
        self.is_busy = done.as_ref().is_err_and(|fault| !fault.keeps_connection());
        if matches!(done, Err(Fault::Unanswered(Cause::Timeout) | Fault::Before(Cause::Timeout))) {
            // The cause of this timeout probably affects the idle connections as well, so drop them.
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
        // Without a cancel request the server would continue a statement whose result nobody reads.
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
