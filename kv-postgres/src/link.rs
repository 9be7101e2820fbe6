//! Connections from the pool, and round trips with deadlines.

use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType, Timeouts};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Cause, Effect, Fault};
use crate::statement::Sql;

/// A statement that met others is sent so often again; the server undid it each time.
const REPEATS: usize = 10;

/// A statement that lost its connection is sent so often again, where that is safe.
const LOSSES: usize = 2;

/// The pool and how it is used.
pub(crate) struct Links {
    pub(crate) pool: Pool,
    /// Whether statements are sent without being prepared, as a pooler of transactions needs it.
    pub(crate) pooled: bool,
    /// How long a round trip may take.
    pub(crate) limit: Duration,
    /// How to tell the server that nobody waits for a statement any more; unknown for a pool that was given.
    pub(crate) canceller: Option<MakeRustlsConnect>,
}

/// The parameters of a statement.
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

impl Links {
    /// Takes a connection, or makes one.
    pub(crate) async fn get(&self) -> Result<Link<'_>, Fault> {
        let got = if self.canceller.is_some() {
            // Most often a connection is there, and needs no timer.
            let at_once = Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
            match self.pool.timeout_get(&at_once).await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => self.pool.get().await,
                got => got,
            }
        } else {
            // A pool that was given may have no deadlines of its own.
            let got = tokio::time::timeout(self.limit, self.pool.get()).await;
            got.unwrap_or_else(|_| Err(self.out_of_time()))
        };
        let object = got.map_err(Fault::pool)?;
        Ok(Link { links: self, object: Some(object), is_busy: false, is_held: false })
    }

    /// Why a pool gave no connection in time: all are in use, or it could not make one.
    pub(crate) fn out_of_time(&self) -> PoolError {
        let status = self.pool.status();
        let is_full = status.size >= status.max_size;
        PoolError::Timeout(if is_full { TimeoutType::Wait } else { TimeoutType::Create })
    }

    /// One statement in a transaction of its own. What the server undid because it met others is sent again.
    pub(crate) async fn call(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        self.send(sql, params, Effect::Write(None)).await
    }

    /// A statement without effect, which may be sent again where the connection was lost.
    pub(crate) async fn read(&self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        self.send(sql, params, Effect::None).await
    }

    async fn send(&self, sql: &Sql, params: Params<'_>, effect: Effect) -> Result<Vec<Row>, Fault> {
        let (mut repeats, mut losses) = (0, 0);
        loop {
            let mut link = self.get().await?;
            let fault = match link.query(sql, params).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            drop(link);
            if repeats < REPEATS && (fault.is_to_repeat() || fault.is_stale_statement()) {
                repeats += 1;
            } else if losses < LOSSES && fault.is_lost_connection(effect) {
                losses += 1;
            } else {
                return Err(fault);
            }
        }
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The pool would show its configuration.
        f.debug_struct("Links").field("pooled", &self.pooled).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A connection for one call. It goes back to the pool only when the server has answered everything.
pub(crate) struct Link<'l> {
    links: &'l Links,
    object: Option<Object>,
    is_busy: bool,
    is_held: bool,
}

impl Link<'_> {
    /// Sends a statement and waits for its rows.
    pub(crate) async fn query(&mut self, sql: &Sql, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let Some(object) = &self.object else { return Err(Fault::Before(Cause::Closed)) };
        self.is_busy = true;
        let mut is_sent = false;
        let trip = async {
            if self.links.pooled {
                is_sent = true;
                let typed: Vec<_> = params.iter().copied().zip(sql.types.iter().cloned()).collect();
                return object.query_typed(&sql.text, &typed).await.map_err(Fault::sent);
            }
            let statement = object.prepare_typed_cached(&sql.text, &sql.types).await.map_err(Fault::connecting)?;
            is_sent = true;
            object.query(&statement, params).await.map_err(Fault::sent)
        };
        let done = match tokio::time::timeout(self.links.limit, trip).await {
            Ok(done) => done,
            Err(_) if is_sent => Err(Fault::Unanswered(Cause::Timeout)),
            Err(_) => Err(Fault::Before(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Runs SQL of our own without parameters, in one round trip.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        let Some(object) = &self.object else { return Err(Fault::Before(Cause::Closed)) };
        self.is_busy = true;
        let done = match tokio::time::timeout(self.links.limit, object.batch_execute(sql)).await {
            Ok(done) => done.map_err(Fault::sent),
            Err(_) => Err(Fault::Unanswered(Cause::Timeout)),
        };
        self.settle(done)
    }

    /// Keeps the connection from going back to the pool until it is released: it is in a transaction.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// The transaction has ended.
    pub(crate) fn release(&mut self) {
        self.is_held = false;
    }

    fn settle<T>(&mut self, done: Result<T, Fault>) -> Result<T, Fault> {
        self.is_busy = done.as_ref().is_err_and(|fault| !fault.spares_connection());
        if matches!(done, Err(Fault::Unanswered(Cause::Timeout) | Fault::Before(Cause::Timeout))) {
            // Whatever keeps this connection from answering is likely to keep the idle ones, too.
            self.links.pool.retain(|_, _| false);
        }
        done
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        if !self.is_busy && !self.is_held {
            return;
        }
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        // Otherwise the server would go on with a statement that nobody waits for.
        if let (false, Some(tls), Ok(home)) =
            (client.is_closed(), self.links.canceller.clone(), tokio::runtime::Handle::try_current())
        {
            let (token, limit) = (client.cancel_token(), self.links.limit);
            home.spawn(async move {
                // Where the server cannot be reached, it ends the statement by its own timeout.
                let _ = tokio::time::timeout(limit, token.cancel_query(tls)).await;
            });
        }
    }
}
