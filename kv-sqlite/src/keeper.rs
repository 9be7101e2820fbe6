//! The store's own small runtime: its timers, the sweeper and the poller. It has a thread of its own, so that the store works
//! under any runtime of its callers, also one without timers, and goes on where the one that opened it has ended.

use std::time::Duration;

use kv_core::{Error, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Gives futures deadlines by the keeper's clock.
#[derive(Debug, Clone)]
pub(crate) struct Timer(Handle);

impl Timer {
    /// What the future gives within `limit`.
    pub(crate) async fn limit<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let timeout = {
            // A timer belongs to the runtime that is entered when it is made, whoever polls it.
            let _entered = self.0.enter();
            tokio::time::timeout(limit, future)
        };
        timeout.await.ok()
    }

    /// What the future gives within `limit`, waited for on a thread that belongs to no runtime.
    pub(crate) fn block_on<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        self.0.block_on(async { tokio::time::timeout(limit, future).await.ok() })
    }

    /// Waits on a thread that belongs to no runtime.
    pub(crate) fn pause(&self, duration: Duration) {
        let _ = self.block_on(duration, std::future::pending::<()>());
    }

    /// Runs what blocks for long on a thread of its own.
    pub(crate) async fn on_thread<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.0.spawn_blocking(run).await.ok()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

/// Keeps the thread running; dropping it ends the thread and its tasks. The writer has it too: what is dropped with the last
/// handle is still written, with timers.
#[derive(Debug)]
pub(crate) struct Keeper {
    timer: Timer,
    _stop: oneshot::Sender<()>,
}

impl Keeper {
    pub(crate) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| Error::capacity("no thread could be started").with_source(error);
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(4).build().map_err(failed)?;
        let timer = Timer(runtime.handle().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("kv-sqlite-keeper".into()).spawn(run).map_err(failed)?;
        Ok(Self { timer, _stop: stop })
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }
}
