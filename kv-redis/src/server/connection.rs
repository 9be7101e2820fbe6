//! One multiplexed connection to a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::Failure;
use crate::server::endpoint::Endpoint;
use crate::server::stream::BoundedStream;

/// A connection to a server, and the task that checks it at every heartbeat.
#[derive(Debug)]
pub(crate) struct Connection {
    driver: Driver,
    is_dead: Arc<AtomicBool>,
    connected_at: Instant,
    /// The latest deadline of a call that got its reply, in milliseconds since `connected_at`. If a call times out and
    /// no call with a later deadline has got its reply, the connection counts as dead. Because all threads read the
    /// value, it is stored only if it rises, and so at most once per millisecond.
    latest_deadline: AtomicU64,
    heartbeat: Mutex<Option<AbortHandle>>,
}

/// A guard that marks the connection dead on drop. The driver owns the guard, and drops it when the driver closes the
/// connection or the runtime of the driver ends.
struct DeadOnDrop(Arc<AtomicBool>);

impl Drop for DeadOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint, max_value: u64) -> Result<Self, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let guard = DeadOnDrop(Arc::clone(&is_dead));
        let on_push = move |push: PushInfo| {
            if push.kind == redis::PushKind::Disconnection {
                guard.0.store(true, Ordering::Release);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let driver = connect(endpoint, max_value, on_push).await?;
        Ok(Self {
            driver,
            is_dead,
            connected_at: Instant::now(),
            latest_deadline: AtomicU64::new(0),
            heartbeat: Mutex::new(None),
        })
    }

    /// Returns a clone of the driver's connection, which sends a command through the same socket.
    pub(crate) fn driver(&self) -> MultiplexedConnection {
        self.driver.connection.clone()
    }

    /// Returns the time since the connection was made.
    pub(crate) fn age(&self) -> Duration {
        self.connected_at.elapsed()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// True if the connection ended because a reply exceeded its bounds.
    pub(crate) fn has_refused_a_reply(&self) -> bool {
        self.driver.has_refused.load(Ordering::Acquire)
    }

    pub(crate) fn mark_dead(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    /// Records that a call with this deadline has got its reply.
    pub(crate) fn record_reply(&self, deadline: Instant) {
        let millis = self.millis(deadline);
        if self.latest_deadline.load(Ordering::Relaxed) < millis {
            self.latest_deadline.store(millis, Ordering::Release);
        }
    }

    /// True if a call with a later deadline has got its reply.
    pub(crate) fn has_replied_after(&self, deadline: Instant) -> bool {
        self.latest_deadline.load(Ordering::Acquire) > self.millis(deadline)
    }

    /// Stores the abort handle of the heartbeat task, so that the task ends with the connection.
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

/// A connection of the driver, and the task that reads and writes its socket.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) connection: MultiplexedConnection,
    /// The task, which ends with the connection; `None` if the driver has made the connection, because then the driver
    /// runs the task.
    task: Option<AbortHandle>,
    /// True after the bounds have refused a reply, which ends the connection.
    has_refused: Arc<AtomicBool>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Opens a connection of the driver that passes the server's pushes to `on_push`, and that ends if the server sends a
/// value of more than `max_value` bytes, or a longer reply than the command can have.
pub(crate) async fn connect<P>(endpoint: &Endpoint, max_value: u64, on_push: P) -> Result<Driver, Failure>
where
    P: Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + 'static,
{
    // The driver needs no timeouts, because each caller has its own deadline. With these buffers, one write to the
    // socket can contain the commands of hundreds of tasks.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1_024)
        .set_write_backpressure_boundary(64 << 10)
        .set_push_sender(on_push);
    if let Some(stream) = BoundedStream::connect(endpoint, max_value).await.map_err(Failure::NotSent)? {
        let has_refused = stream.has_refused();
        let opening = MultiplexedConnection::new_with_config(endpoint.info().redis_settings(), stream, config);
        let (connection, task) = opening.await.map_err(Failure::NotSent)?;
        return Ok(Driver { connection, task: Some(tokio::spawn(task).abort_handle()), has_refused });
    }
    let opening = endpoint.client().get_multiplexed_async_connection_with_config(&config);
    Ok(Driver { connection: opening.await.map_err(Failure::NotSent)?, task: None, has_refused: Arc::default() })
}
