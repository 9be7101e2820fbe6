//! The background task that removes expired entries.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kv_core::{BoxFuture, Clock};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The methods of a store that the background task calls.
pub(crate) trait Sweepable: Debug + Send + Sync {
    fn clock(&self) -> Arc<dyn Clock>;

    /// Removes the expired entries and returns their number.
    fn sweep_expired(&self) -> BoxFuture<'_, u64>;

    /// True if the sweeper has nothing to do, so that the task can end.
    fn is_swept(&self) -> bool;
}

/// Starts the background task when a store has something to sweep, and stops the task when the store is closed or
/// dropped. Something to sweep is an entry with a deadline, or a stale key in the indexes of the bounded engine.
///
/// The task has only a weak reference to the store, and ends when there is nothing to sweep. The next write with a
/// deadline starts a new task, even if the runtime of the earlier task has ended. A write outside of a tokio runtime
/// starts no task. Without a task, only `sweep`, overwriting and deleting free expired entries. Reads never depend on
/// the task, because they check the deadline.
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

    /// Starts the task if it is not running.
    ///
    /// The caller must have inserted the deadline and released the lock of the shard or slot. Then either a running
    /// task finds the deadline in its last check, or this call finds that the task has ended.
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
        let task = runtime.spawn(run_sweeper(Weak::clone(&self.store), clock, self.interval, since, running));
        *self.task.lock() = Some(task.abort_handle());
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sweeps once per interval, until there is nothing to sweep.
///
/// An interval begins with the start of the previous sweep. A test may move its clock while this task is not sleeping
/// on that clock. If the interval has passed then, the task sweeps at once.
async fn run_sweeper(
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

/// Sets `Sweeper::is_running` for as long as the task runs. Dropping this guard clears the flag, even if the runtime
/// drops the task.
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

    /// Sets the flag again. Returns false if a write has started a new task in the meantime.
    fn set(&mut self) -> bool {
        self.is_set = !self.flag.swap(true, Ordering::AcqRel);
        self.is_set
    }
}

impl Drop for RunningFlag {
    fn drop(&mut self) {
        // If the task panics, leave the flag set, so that no later write starts a new task. On a tokio runtime without
        // a timer, for example, the clock panics in every task.
        if !std::thread::panicking() {
            self.clear();
        }
    }
}
