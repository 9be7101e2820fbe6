//! One server: at most one multiplexed connection to it, made when it is needed and given up when it is of no use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kv_core::{Clock, SystemClock};
use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, RedisError, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::offset::{Now, Offset};

/// The deadlines of every server of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) connect: Duration,
    pub(crate) operation: Duration,
    pub(crate) heartbeat: Duration,
}

#[derive(Debug)]
pub(crate) struct Node {
    this: Weak<Self>,
    client: Client,
    timing: Timing,
    clock: Arc<dyn Clock>,
    offset: Offset,
    live: RwLock<Option<Arc<Live>>>,
    /// Held by who connects.
    turn: tokio::sync::Mutex<()>,
    /// How many attempts to connect have failed, and how the last one did: who waited for it does not try again.
    failed: Mutex<(u64, Option<Failure>)>,
    is_closed: AtomicBool,
}

/// A connection that works, as far as is known.
#[derive(Debug)]
struct Live {
    connection: MultiplexedConnection,
    is_dead: Arc<AtomicBool>,
    born: Instant,
    /// The latest deadline of the calls that were answered, in milliseconds since the connection was made: where none of those
    /// that came after a call was answered by its deadline, none will be. Written at most once a millisecond, since all
    /// threads read it.
    heard: AtomicU64,
    heartbeat: Mutex<Option<AbortHandle>>,
}

/// Marks a connection dead when the driver lets go of it, for whatever reason: also when its runtime has ended.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Live {
    fn label(&self, until: Instant) -> u64 {
        u64::try_from(until.duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }

    /// A call with this deadline was answered.
    fn heard_of(&self, until: Instant) {
        let label = self.label(until);
        if self.heard.load(Ordering::Relaxed) < label {
            self.heard.store(label, Ordering::Release);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(heartbeat) = self.heartbeat.lock().take() {
            heartbeat.abort();
        }
    }
}

impl Node {
    pub(crate) fn new(client: Client, timing: Timing, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with_offset(client, timing, clock, Offset::default())
    }

    /// Another server of the same cluster.
    pub(crate) fn another(&self, client: Client) -> Arc<Self> {
        Self::with_offset(client, self.timing, Arc::clone(&self.clock), Offset::of_another(&self.offset))
    }

    fn with_offset(client: Client, timing: Timing, clock: Arc<dyn Clock>, offset: Offset) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            client,
            timing,
            clock,
            offset,
            live: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
            failed: Mutex::new((0, None)),
            is_closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The server's time.
    pub(crate) fn now(&self) -> Now {
        self.offset.apply(self.clock.now())
    }

    /// Whether it was ever asked for its time.
    pub(crate) fn is_measured(&self) -> bool {
        self.offset.is_measured()
    }

    /// Sends a command and waits for its answer. It is sent at most once.
    pub(crate) async fn call(&self, cmd: &Cmd, until: Instant) -> Result<Value, Failure> {
        let live = self.connected(until).await?;
        let mut connection = live.connection.clone();
        match timeout_at(until, connection.send_packed_command(cmd)).await {
            Ok(Ok(value)) => {
                live.heard_of(until);
                self.judged(&live, value)
            }
            Ok(Err(error)) => Err(self.lost(&live, error)),
            Err(_) => Err(self.late(&live, until)),
        }
    }

    /// Sends several commands at once and waits for all answers.
    pub(crate) async fn call_all(&self, pipeline: &Pipeline, until: Instant) -> Vec<Result<Value, Failure>> {
        let failed = |failure: Failure| vec![Err(failure); pipeline.len()];
        let live = match self.connected(until).await {
            Ok(live) => live,
            Err(failure) => return failed(failure),
        };
        let mut connection = live.connection.clone();
        match timeout_at(until, connection.send_packed_commands(pipeline, 0, pipeline.len())).await {
            Ok(Ok(values)) if values.len() == pipeline.len() => {
                live.heard_of(until);
                values.into_iter().map(|value| self.judged(&live, value)).collect()
            }
            Ok(Ok(_)) => failed(Failure::Strange),
            Ok(Err(error)) => failed(self.lost(&live, error)),
            Err(_) => failed(self.late(&live, until)),
        }
    }

    /// Gives the connection up for good.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        *self.live.write() = None;
    }

    fn judged(&self, live: &Arc<Live>, value: Value) -> Result<Value, Failure> {
        let Value::ServerError(error) = value else { return Ok(value) };
        if error.code() == "READONLY" {
            // Behind the same name there may be another server by now.
            self.give_up(live);
        }
        Err(Failure::Refused(error))
    }

    fn lost(&self, live: &Arc<Live>, error: RedisError) -> Failure {
        self.give_up(live);
        Failure::Lost(error)
    }

    fn late(&self, live: &Arc<Live>, until: Instant) -> Failure {
        if live.heard.load(Ordering::Acquire) <= live.label(until) {
            self.give_up(live);
        }
        Failure::Late
    }

    fn give_up(&self, live: &Arc<Live>) {
        live.is_dead.store(true, Ordering::Release);
        let mut current = self.live.write();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            *current = None;
        }
    }

    fn current(&self) -> Option<Arc<Live>> {
        self.live.read().as_ref().filter(|live| !live.is_dead.load(Ordering::Acquire)).map(Arc::clone)
    }

    async fn connected(&self, until: Instant) -> Result<Arc<Live>, Failure> {
        match self.current() {
            Some(live) => Ok(live),
            // It happens seldom, and is kept out of the future of every call.
            None => Box::pin(self.reconnected(until)).await,
        }
    }

    async fn reconnected(&self, until: Instant) -> Result<Arc<Live>, Failure> {
        let seen = self.failed.lock().0;
        let _turn = timeout_at(until, self.turn.lock()).await.map_err(|_| Failure::NotInTime)?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let (failures, Some(failure)) = &*self.failed.lock()
            && *failures > seen
        {
            return Err(failure.clone());
        }
        let limit = until.min(Instant::now() + self.timing.connect);
        let attempt = timeout_at(limit, self.connect()).await;
        attempt.map_err(|_| Failure::NotInTime).and_then(|attempt| attempt).inspect_err(|failure| {
            let mut failed = self.failed.lock();
            failed.0 += 1;
            failed.1 = Some(failure.clone());
        })
    }

    async fn connect(&self) -> Result<Arc<Live>, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let guard = Guard(Arc::clone(&is_dead));
        let hear = move |info: PushInfo| {
            if info.kind == redis::PushKind::Disconnection {
                guard.0.store(true, Ordering::Release);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let connection = connect(&self.client, hear).await?;
        let (born, heard) = (Instant::now(), AtomicU64::new(0));
        let live = Arc::new(Live { connection, is_dead, born, heard, heartbeat: Mutex::new(None) });
        self.measure(&live).await?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        let beating = tokio::spawn(beat(Weak::clone(&self.this), Arc::downgrade(&live), self.timing));
        *live.heartbeat.lock() = Some(beating.abort_handle());
        *self.live.write() = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Asks the server for its time.
    async fn measure(&self, live: &Live) -> Result<(), Failure> {
        let mut connection = live.connection.clone();
        let sent = self.clock.now();
        let answer = connection.send_packed_command(&redis::cmd("TIME")).await.map_err(Failure::Unsent)?;
        let heard = self.clock.now();
        match answer {
            Value::ServerError(error) => Err(Failure::Refused(error)),
            answer => {
                let (seconds, micros): (u64, u64) = redis::from_redis_value(answer).map_err(|_| Failure::Strange)?;
                let since = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros));
                let server = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
                self.offset.measured(sent, server.ok_or(Failure::Strange)?, heard);
                Ok(())
            }
        }
    }
}

/// Asks for the time again and again, and gives up a connection on which nothing comes any more.
async fn beat(node: Weak<Node>, live: Weak<Live>, timing: Timing) {
    loop {
        SystemClock.sleep(timing.heartbeat).await;
        let (Some(node), Some(live)) = (node.upgrade(), live.upgrade()) else { return };
        let until = Instant::now() + timing.operation;
        match timeout_at(until, node.measure(&live)).await {
            Ok(Ok(()) | Err(Failure::Refused(_))) => live.heard_of(until),
            Ok(Err(_)) => node.give_up(&live),
            Err(_) => drop(node.late(&live, until)),
        }
        if live.is_dead.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Makes a connection that tells what the server pushes.
pub(crate) async fn connect<P>(client: &Client, hear: P) -> Result<MultiplexedConnection, Failure>
where
    P: Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + 'static,
{
    // Deadlines are ours; the buffers are large enough for hundreds of tasks to be written at once.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1_024)
        .set_write_backpressure_boundary(64 << 10)
        .set_push_sender(hear);
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(Failure::Unsent)
}
