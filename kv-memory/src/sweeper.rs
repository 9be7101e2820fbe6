//! The background task that removes expired entries.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kv_core::{BoxFuture, Clock};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The methods of a store that the sweeping task calls.
pub(crate) trait Sweepable: Debug + Send + Sync {
    fn clock(&self) -> Arc<dyn Clock>;

    /// Removes the expired entries and returns their number.
    fn sweep_expired(&self) -> BoxFuture<'_, u64>;

    /// True if no entry has a deadline, so that the task can end.
    fn is_swept(&self) -> bool;
}

/// Starts the sweeping task when an entry has a deadline, and stops it with the store.
///
/// The task holds the store weakly and ends when no entry has a deadline. The next write with a deadline starts it
/// again, also if the runtime of the earlier task has ended. Without a tokio runtime there is no task; `sweep`,
/// overwriting and deleting then free expired entries. Reads never depend on the task, because they check the deadline.
#[derive(Debug)]
pub(crate) struct Sweeper {
    store: Weak<dyn Sweepable>,
    interval: Duration,
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Sweeper {
    pub(crate) fn new(store: Weak<dyn Sweepable>, interval: Duration) -> Self {
        Self { store, interval, is_running: Arc::default(), task: Mutex::default() }
    }

    /// Starts the task unless it runs.
    ///
    /// The caller must have inserted the deadline and released its lock before. Then either the last check of a running
    /// task finds the deadline, or this call finds that the task has ended.
    pub(crate) fn wake(&self) {
        if !self.is_running.load(Ordering::Acquire) {
            self.start();
        }
    }

    /// Aborts the task.
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
        let running = RunningFlag { flag: Arc::clone(&self.is_running), is_set: true };
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

/// Sweeps once per interval. An interval is measured from the start of the previous sweep, so that the task catches up
/// at once with a clock that moved while the task was not sleeping on it, as a test clock may.
async fn run(
    store: Weak<dyn Sweepable>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    mut since: SystemTime,
    mut running: RunningFlag,
) {
    loop {
        let elapsed = clock.now().duration_since(since).unwrap_or_default();
        clock.sleep(interval.saturating_sub(elapsed)).await;
        since = clock.now();
        let Some(store) = store.upgrade() else { return };
        store.sweep_expired().await;
        running.clear();
        if store.is_swept() || !running.set() {
            return;
        }
    }
}

/// The flag of [`Sweeper::is_running`], held by the task. Dropping it clears the flag, also if the runtime drops the
/// task.
#[derive(Debug)]
struct RunningFlag {
    flag: Arc<AtomicBool>,
    is_set: bool,
}

impl RunningFlag {
    fn clear(&mut self) {
        if self.is_set {
            self.is_set = false;
            self.flag.store(false, Ordering::Release);
        }
    }

    /// Sets the flag again. Returns false if a write has started another task in the meantime.
    fn set(&mut self) -> bool {
        self.is_set = !self.flag.swap(true, Ordering::AcqRel);
        self.is_set
    }
}

impl Drop for RunningFlag {
    fn drop(&mut self) {
        // A clock that panics, as tokio's does on a runtime without a timer, would otherwise panic again in the task of
        // every later write with a deadline.
        if !std::thread::panicking() {
            self.clear();
        }
    }
}
