//! The server that the connections of the pool reach.
//!
//! A change is reported by one server, and is read through the pool. If the pool reached another server, as after a
//! failover behind one address, a report would prove nothing about the reads. A connection never moves to another
//! server, so the pool asks each new connection for the start time of its server. The start time identifies a server in
//! one role: a server that is demoted or restored starts again. Every role may read the start time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use deadpool_postgres::{ClientWrapper, Hook, HookError, Metrics};
use tokio::sync::Notify;

/// The SQL expression for the start time of the server.
pub(crate) const START_TIME: &str = "pg_catalog.pg_postmaster_start_time()";

/// The identity of a running server: its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerId(pub(crate) SystemTime);

/// The server of the pool's connections. All connections that calls get reach the same server.
#[derive(Debug, Default)]
pub(crate) struct PoolServer {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    server: Option<ServerId>,
    /// Older connections may reach another server.
    valid_since: Option<Instant>,
}

impl PoolServer {
    /// Returns the hook that asks a new connection for its server, at most for `timeout`.
    pub(crate) fn hook(self: &Arc<Self>, timeout: Duration) -> Hook {
        let server = Arc::clone(self);
        Hook::async_fn(move |client: &mut ClientWrapper, metrics: &Metrics| {
            let server = Arc::clone(&server);
            Box::pin(async move {
                let sql = format!("SELECT {START_TIME}");
                let row = tokio::time::timeout(timeout, client.query_typed_one(&sql, &[])).await;
                let row = row.map_err(|_| HookError::message("the server did not answer"))?;
                let row = row.map_err(HookError::Backend)?;
                server.note(ServerId(row.try_get(0).map_err(HookError::Backend)?), metrics.created);
                Ok(())
            })
        })
    }

    /// Notes the server of a new connection. If it is another server, older connections are no longer used.
    fn note(&self, server: ServerId, created: Instant) {
        let mut known = self.known();
        if known.valid_since.is_some_and(|since| created < since) {
            return;
        }
        match known.server.replace(server) {
            Some(before) if before != server => {
                known.valid_since = Some(created);
                self.changed.notify_one();
            }
            Some(_) => {}
            None => self.changed.notify_one(),
        }
    }

    /// Forgets the server. The existing connections are no longer used.
    pub(crate) fn renew(&self) {
        let now = tokio::time::Instant::now().into_std();
        *self.known() = Known { server: None, valid_since: Some(now) };
    }

    /// True if a connection that was made at this moment may be used.
    pub(crate) fn accepts(&self, created: Instant) -> bool {
        self.known().valid_since.is_none_or(|since| created >= since)
    }

    /// Returns the server; `None` if there was no connection since the last renewal.
    pub(crate) fn get(&self) -> Option<ServerId> {
        self.known().server
    }

    /// Waits until a new connection may reach another server.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn connections_to_another_server_replace_the_older_connections() {
        let server = PoolServer::default();
        let [old, new] = [1, 2].map(|seconds| ServerId(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
        let first = tokio::time::Instant::now().into_std();
        let [second, third] = [1, 2].map(|millis| first + Duration::from_millis(millis));
        server.note(old, first);
        assert!(server.changed().now_or_never().is_some());
        server.note(old, second);
        assert!(server.changed().now_or_never().is_none());
        assert!(server.accepts(first) && server.accepts(second));
        server.note(new, third);
        assert!(server.changed().now_or_never().is_some());
        assert_eq!(server.get(), Some(new));
        assert!(!server.accepts(first) && !server.accepts(second) && server.accepts(third));
        // The answer of an older connection is late.
        server.note(old, second);
        assert_eq!(server.get(), Some(new));
        server.renew();
        assert_eq!(server.get(), None);
        assert!(!server.accepts(first));
    }
}
