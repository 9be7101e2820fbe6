//! The task that frees expired entries in the background.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use kv_core::Clock;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::operations::Inner;

/// How many entries are removed under one lock, and between two chances for other tasks.
pub(crate) const BATCH: usize = 256;

/// Starts the sweeping task when something has a deadline, and ends it with the store.
///
/// The task holds the store weakly, ends when nothing is left to sweep, and is started again by the next write with a
/// deadline, also when the runtime that it ran on has ended. Without a tokio runtime there is no task, and entries are
/// freed by `sweep`, overwriting and deleting; that they are absent never depends on it.
#[derive(Debug)]
pub(crate) struct Sweeper {
    store: Weak<Inner>,
    interval: Duration,
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Sweeper {
    pub(crate) fn new(store: Weak<Inner>, interval: Duration) -> Self {
        Self { store, interval, is_running: Arc::default(), task: Mutex::default() }
    }

    /// Sees to it that the task runs. The caller has left something to sweep and released the lock over it: either the
    /// task, looking a last time, finds it, or the caller finds the task ended.
    pub(crate) fn wake(&self) {
        if !self.is_running.load(Ordering::Acquire) {
            self.start();
        }
    }

    /// Ends the task.
    pub(crate) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    #[cold]
    fn start(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let running = Running { flag: Some(Arc::clone(&self.is_running)) };
        let Some(clock) = self.store.upgrade().map(|store| store.clock()) else { return };
        let since = clock.now();
        let task = runtime.spawn(run(Weak::clone(&self.store), clock, self.interval, since, running));
        *self.task.lock() = Some(task.abort_handle());
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sweeps once an interval. Intervals are counted from before a sweep, so that a clock that moves while the task does not
/// wait on it, as one in a test may, is caught up with at once.
async fn run(
    store: Weak<Inner>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    mut since: SystemTime,
    mut running: Running,
) {
    loop {
        let passed = clock.now().duration_since(since).unwrap_or_default();
        clock.sleep(interval.saturating_sub(passed)).await;
        since = clock.now();
        let Some(store) = store.upgrade() else { return };
        store.engine.sweep().await;
        running.lower();
        if store.engine.is_swept() || !running.raise(&store) {
            return;
        }
    }
}

/// The flag that the task runs. It falls with the task, however that ends: with its runtime, too.
#[derive(Debug)]
struct Running {
    flag: Option<Arc<AtomicBool>>,
}

impl Running {
    fn lower(&mut self) {
        if let Some(flag) = self.flag.take() {
            flag.store(false, Ordering::Release);
        }
    }

    /// Takes the flag again, unless a write has started another task in the meantime.
    fn raise(&mut self, store: &Inner) -> bool {
        let flag = &store.engine.context().sweeper.is_running;
        if flag.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.flag = Some(Arc::clone(flag));
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A clock that panics, as tokio's does on a runtime without time, would panic at every write with a deadline.
        if !std::thread::panicking() {
            self.lower();
        }
    }
}

/// Gives other tasks a turn, on any executor.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
