//! One server. A node has at most one multiplexed connection. The node opens the connection on demand, and discards it
//! when it no longer works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::join;
use kv_core::{Clock, SystemClock};
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::server::clock_offset::{ClockOffset, ServerTime};
use crate::server::connection::Connection;
use crate::server::connections::Connections;
use crate::server::endpoint::Endpoint;
use crate::server::identity::{self, ServerId};

/// The timeouts, the heartbeat interval and the maximum size of a value. Every server of a store has the same settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) connect: Duration,
    pub(crate) operation: Duration,
    pub(crate) heartbeat: Duration,
    /// The maximum number of bytes of one value in a reply.
    pub(crate) max_value: u64,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    /// This node, for the heartbeat task.
    this: Weak<Self>,
    endpoint: Endpoint,
    timing: Timing,
    clock: Arc<dyn Clock>,
    /// The counter of connections, which all nodes of a store share.
    connections: Arc<Connections>,
    offset: ClockOffset,
    connection: RwLock<Option<Arc<Connection>>>,
    /// The lock that an attempt to connect holds, so that there is one attempt at a time.
    connecting: tokio::sync::Mutex<()>,
    /// The number of failed attempts to connect, and the last failure. If an attempt fails, the callers that waited for
    /// this attempt get the same failure and do not try again.
    failed_attempts: Mutex<(u64, Option<Failure>)>,
    /// The server of the last connection; `None` before the first connection.
    server: Mutex<Option<ServerId>>,
    is_closed: AtomicBool,
}

impl Node {
    pub(crate) fn new(
        endpoint: Endpoint,
        timing: Timing,
        clock: Arc<dyn Clock>,
        connections: Arc<Connections>,
    ) -> Arc<Self> {
        Self::with_offset(endpoint, timing, clock, connections, ClockOffset::default())
    }

    /// Returns a node for another server of the same cluster. The new node uses the clock offset of this node until its
    /// own offset is measured.
    pub(crate) fn sibling(&self, endpoint: Endpoint) -> Arc<Self> {
        let offset = ClockOffset::borrowed_from(&self.offset);
        Self::with_offset(endpoint, self.timing, Arc::clone(&self.clock), Arc::clone(&self.connections), offset)
    }

    fn with_offset(
        endpoint: Endpoint,
        timing: Timing,
        clock: Arc<dyn Clock>,
        connections: Arc<Connections>,
        offset: ClockOffset,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            endpoint,
            timing,
            clock,
            connections,
            offset,
            connection: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(()),
            failed_attempts: Mutex::new((0, None)),
            server: Mutex::new(None),
            is_closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the server's time.
    pub(crate) fn now(&self) -> ServerTime {
        self.offset.server_time_at(self.clock.now())
    }

    /// True if the clock of this server was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.offset.is_measured()
    }

    /// Sends a command, at most once, and waits for its reply.
    pub(crate) async fn call(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let connection = self.connected(deadline).await?;
        let mut driver = connection.driver();
        match timeout_at(deadline, driver.send_packed_command(cmd)).await {
            Ok(Ok(value)) => {
                connection.record_reply(deadline);
                self.check_reply(&connection, value)
            }
            Ok(Err(error)) => Err(self.disconnected(&connection, error)),
            Err(_) => Err(self.timed_out(&connection, deadline)),
        }
    }

    /// Sends several commands in one pipeline, at most once, and waits for all replies.
    pub(crate) async fn call_all(&self, pipeline: &Pipeline, deadline: Instant) -> Vec<Result<Value, Failure>> {
        let failed = |failure: Failure| vec![Err(failure); pipeline.len()];
        let connection = match self.connected(deadline).await {
            Ok(connection) => connection,
            Err(failure) => return failed(failure),
        };
        let mut driver = connection.driver();
        match timeout_at(deadline, driver.send_packed_commands(pipeline, 0, pipeline.len())).await {
            Ok(Ok(values)) if values.len() == pipeline.len() => {
                connection.record_reply(deadline);
                values.into_iter().map(|value| self.check_reply(&connection, value)).collect()
            }
            Ok(Ok(_)) => failed(Failure::UnexpectedReply),
            Ok(Err(error)) => failed(self.disconnected(&connection, error)),
            Err(_) => failed(self.timed_out(&connection, deadline)),
        }
    }

    /// Returns the server of the last connection; `None` before the first connection.
    pub(crate) fn server(&self) -> Option<ServerId> {
        self.server.lock().clone()
    }

    /// Discards the connection if it is older than a heartbeat, so that the next call makes a new connection.
    pub(crate) fn renew_connection(&self) {
        self.renew_connection_of_age(self.timing.heartbeat);
    }

    /// Discards the connection if it has at least this age, so that the next call makes a new connection.
    pub(crate) fn renew_connection_of_age(&self, age: Duration) {
        if let Some(connection) = self.current()
            && connection.age() >= age
        {
            self.discard(&connection);
        }
    }

    /// Discards the connection. From now on, calls fail with `Closed`.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        *self.connection.write() = None;
    }

    fn check_reply(&self, connection: &Arc<Connection>, value: Value) -> Result<Value, Failure> {
        let Value::ServerError(error) = value else { return Ok(value) };
        let failure = Failure::Refused(error);
        if let Some("READONLY" | "MASTERDOWN") = failure.code() {
            // The server is a replica now. A new connection to the same address may lead to the new master, for example
            // through a proxy.
            self.discard(connection);
            self.connections.suspect();
        } else if failure.code() == Some("LOADING") {
            self.connections.suspect();
        }
        Err(failure)
    }

    fn disconnected(&self, connection: &Arc<Connection>, error: RedisError) -> Failure {
        self.discard(connection);
        if connection.has_refused_a_reply() { Failure::BadReply(error) } else { Failure::Disconnected(error) }
    }

    fn timed_out(&self, connection: &Arc<Connection>, deadline: Instant) -> Failure {
        // A reply to a later call proves that the connection works, and that only this call was slow.
        if !connection.has_replied_after(deadline) {
            self.discard(connection);
        }
        Failure::TimedOut
    }

    fn discard(&self, connection: &Arc<Connection>) {
        connection.mark_dead();
        let mut current = self.connection.write();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        self.connection.read().as_ref().filter(|connection| !connection.is_dead()).map(Arc::clone)
    }

    async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, Failure> {
        match self.current() {
            Some(connection) => Ok(connection),
            // Boxed, because it is rarely needed and would enlarge the future of every call.
            None => Box::pin(self.reconnect(deadline)).await,
        }
    }

    async fn reconnect(&self, deadline: Instant) -> Result<Arc<Connection>, Failure> {
        let attempts_before = self.failed_attempts.lock().0;
        let _connecting = timeout_at(deadline, self.connecting.lock()).await.map_err(|_| Failure::NotSentInTime)?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        if let (attempts, Some(failure)) = &*self.failed_attempts.lock()
            && *attempts > attempts_before
        {
            return Err(failure.clone());
        }
        let connect_deadline = deadline.min(Instant::now() + self.timing.connect);
        let attempt = timeout_at(connect_deadline, self.connect()).await;
        attempt.map_err(|_| Failure::NotSentInTime).and_then(|attempt| attempt).inspect_err(|failure| {
            let mut failed_attempts = self.failed_attempts.lock();
            failed_attempts.0 += 1;
            failed_attempts.1 = Some(failure.clone());
        })
    }

    async fn connect(&self) -> Result<Arc<Connection>, Failure> {
        let connection = Arc::new(Connection::open(&self.endpoint, self.timing.max_value).await?);
        let (measured, server) = join(self.measure_clock(&connection), server_of(&connection)).await;
        measured?;
        let server = server?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        let heartbeat = tokio::spawn(run_heartbeat(Weak::clone(&self.this), Arc::downgrade(&connection), self.timing));
        connection.set_heartbeat(heartbeat.abort_handle());
        // The number rises before the first call uses the connection, so that a list that begins later sees the new
        // number.
        self.connections.add();
        // The listener learns of another server before the first call uses the connection.
        let before = self.server.lock().replace(server.clone());
        if before.is_some_and(|before| before != server) {
            self.connections.suspect();
        }
        *self.connection.write() = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Reads the server's time, and records the offset of its clock.
    async fn measure_clock(&self, connection: &Connection) -> Result<(), Failure> {
        let mut driver = connection.driver();
        let sent_at = self.clock.now();
        let reply = driver.send_packed_command(&redis::cmd("TIME")).await.map_err(Failure::NotSent)?;
        let received_at = self.clock.now();
        match reply {
            Value::ServerError(error) => Err(Failure::Refused(error)),
            reply => {
                let (seconds, micros): (u64, u64) =
                    redis::from_redis_value(reply).map_err(|_| Failure::UnexpectedReply)?;
                let since = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros));
                let server = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                self.offset.record(sent_at, server.ok_or(Failure::UnexpectedReply)?, received_at);
                Ok(())
            }
        }
    }
}

/// Reads the run id of the server.
async fn server_of(connection: &Connection) -> Result<ServerId, Failure> {
    let reply = connection.driver().send_packed_command(redis::cmd("INFO").arg("server")).await;
    match identity::info_text(reply.map_err(Failure::NotSent))? {
        Some(text) => Ok(ServerId::from_info(&text)),
        None => Ok(ServerId::default()),
    }
}

/// Reads the server's time at every heartbeat, and discards the connection if the server does not reply.
async fn run_heartbeat(node: Weak<Node>, connection: Weak<Connection>, timing: Timing) {
    loop {
        SystemClock.sleep(timing.heartbeat).await;
        let (Some(node), Some(connection)) = (node.upgrade(), connection.upgrade()) else { return };
        let deadline = Instant::now() + timing.operation;
        match timeout_at(deadline, node.measure_clock(&connection)).await {
            Ok(Ok(()) | Err(Failure::Refused(_))) => connection.record_reply(deadline),
            Ok(Err(_)) => node.discard(&connection),
            Err(_) => drop(node.timed_out(&connection, deadline)),
        }
        if connection.is_dead() {
            return;
        }
    }
}
