//! One multiplexed connection to a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::Failure;
use crate::server::stream::BoundedStream;

/// A connection that works, as far as is known.
#[derive(Debug)]
pub(crate) struct Connection {
    driver: Driver,
    is_dead: Arc<AtomicBool>,
    connected_at: Instant,
    /// The latest deadline among the answered calls, in milliseconds since `connected_at`. If a call times out and no
    /// call with a later deadline was answered, the connection counts as dead. Stored at most once a
    /// millisecond, because all threads read it.
    answered: AtomicU64,
    heartbeat: Mutex<Option<AbortHandle>>,
}

/// Marks the connection dead on drop. The driver owns it and drops it whenever it gives up the connection, also at the
/// end of the runtime.
struct DeadOnDrop(Arc<AtomicBool>);

impl Drop for DeadOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connection {
    pub(crate) async fn open(client: &Client, max_value: u64) -> Result<Self, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let guard = DeadOnDrop(Arc::clone(&is_dead));
        let on_push = move |push: PushInfo| {
            if push.kind == redis::PushKind::Disconnection {
                guard.0.store(true, Ordering::Release);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let driver = connect(client, max_value, on_push).await?;
        Ok(Self {
            driver,
            is_dead,
            connected_at: Instant::now(),
            answered: AtomicU64::new(0),
            heartbeat: Mutex::new(None),
        })
    }

    /// A clone of the driver's connection, to send a command with.
    pub(crate) fn driver(&self) -> MultiplexedConnection {
        self.driver.connection.clone()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    pub(crate) fn mark_dead(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    /// Records that a call with this deadline was answered.
    pub(crate) fn record_answer(&self, deadline: Instant) {
        let millis = self.millis(deadline);
        if self.answered.load(Ordering::Relaxed) < millis {
            self.answered.store(millis, Ordering::Release);
        }
    }

    /// True if a call with a later deadline was answered.
    pub(crate) fn has_answered_after(&self, deadline: Instant) -> bool {
        self.answered.load(Ordering::Acquire) > self.millis(deadline)
    }

    /// Keeps the handle of the heartbeat task, to end it with the connection.
    pub(crate) fn set_heartbeat(&self, heartbeat: AbortHandle) {
        *self.heartbeat.lock() = Some(heartbeat);
    }

    fn millis(&self, deadline: Instant) -> u64 {
        u64::try_from(deadline.duration_since(self.connected_at).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(heartbeat) = self.heartbeat.lock().take() {
            heartbeat.abort();
        }
    }
}

/// A connection of the driver, and the task that moves its bytes.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) connection: MultiplexedConnection,
    /// Ends with the connection. The driver has a task of its own if it has connected itself.
    task: Option<AbortHandle>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Opens a connection of the driver that passes the server's pushes to `on_push`, and whose values have at most
/// `max_value` bytes.
pub(crate) async fn connect<P>(client: &Client, max_value: u64, on_push: P) -> Result<Driver, Failure>
where
    P: Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + 'static,
{
    // The callers set their own deadlines. The buffers hold the commands of hundreds of tasks in one write.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1_024)
        .set_write_backpressure_boundary(64 << 10)
        .set_push_sender(on_push);
    let info = client.get_connection_info();
    let bounded =
        BoundedStream::connect(info.addr(), info.tcp_settings(), max_value).await.map_err(Failure::NotSent)?;
    if let Some(stream) = bounded {
        let opening = MultiplexedConnection::new_with_config(info.redis_settings(), stream, config);
        let (connection, task) = opening.await.map_err(Failure::NotSent)?;
        return Ok(Driver { connection, task: Some(tokio::spawn(task).abort_handle()) });
    }
    let opening = client.get_multiplexed_async_connection_with_config(&config);
    Ok(Driver { connection: opening.await.map_err(Failure::NotSent)?, task: None })
}
