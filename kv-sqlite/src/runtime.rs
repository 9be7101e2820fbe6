//! The store's own runtime, which runs the timers, the sweeper and the poller.
//!
//! The runtime has its own thread. Therefore the store works on any async runtime of its callers, including a runtime
//! without timers, and continues to work after the runtime that opened the store has ended.

use std::time::Duration;

use kv_core::{Error, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Sets timeouts and spawns tasks on the store's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Timer(Handle);

impl Timer {
    /// Awaits the future; `None` if it is not ready within `limit`.
    pub(crate) async fn limit<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let timeout = {
            // A tokio timer belongs to the runtime that is entered when the timer is created, not to the runtime that
            // polls the timer.
            let _entered = self.0.enter();
            tokio::time::timeout(limit, future)
        };
        timeout.await.ok()
    }

    /// Waits for the future; `None` if it is not ready within `limit`. Blocks the thread, which must belong to no
    /// runtime.
    pub(crate) fn block_on<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        self.0.block_on(async { tokio::time::timeout(limit, future).await.ok() })
    }

    /// Sleeps. Blocks the thread, which must belong to no runtime.
    pub(crate) fn sleep(&self, duration: Duration) {
        let _ = self.block_on(duration, std::future::pending::<()>());
    }

    /// Runs blocking work on a separate thread; `None` if the work panics or the store's runtime has ended.
    pub(crate) async fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.0.spawn_blocking(work).await.ok()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

/// The runtime and its thread. Dropping this ends the thread and the tasks of the runtime.
///
/// The state and the writer share this runtime. The writer needs timers for longer than the handles, because the writer
/// still commits the writes that are queued when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct StoreRuntime {
    timer: Timer,
    _stop: oneshot::Sender<()>,
}

impl StoreRuntime {
    pub(crate) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| Error::capacity("a thread could not be started").with_source(error);
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(4).build().map_err(failed)?;
        let timer = Timer(runtime.handle().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("kv-sqlite-timers".into()).spawn(run).map_err(failed)?;
        Ok(Self { timer, _stop: stop })
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }
}
