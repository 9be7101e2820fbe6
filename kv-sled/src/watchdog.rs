//! The watchdog: a thread that detects that the worker hangs inside sled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::state::State;

/// The heartbeat of the worker. Its counter is odd while the worker is inside a call that may hang.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    counter: AtomicU64,
    timeout_millis: AtomicU64,
}

impl Heartbeat {
    /// Begins a call that may hang. The call ends when the guard is dropped. Until then, the worker must call
    /// [`Heartbeat::beat`] at intervals shorter than the timeout.
    pub(crate) fn begin(&self, timeout: Duration) -> Busy<'_> {
        self.timeout_millis.store(millis(timeout), Ordering::Release);
        self.counter.fetch_add(1, Ordering::AcqRel);
        Busy { heartbeat: self }
    }

    /// Proves progress inside a call.
    pub(crate) fn beat(&self) {
        self.counter.fetch_add(2, Ordering::AcqRel);
    }

    /// The interval at which the watchdog reads the counter: a fraction of the current timeout.
    fn interval(&self) -> Duration {
        Duration::from_millis((self.timeout_millis.load(Ordering::Acquire) / CHECKS_PER_TIMEOUT).clamp(1, 250))
    }
}

/// The minimum number of times that the watchdog reads the counter within one timeout.
const CHECKS_PER_TIMEOUT: u64 = 16;

/// Marks the worker as inside a call that may hang, until this guard is dropped.
#[derive(Debug)]
pub(crate) struct Busy<'h> {
    heartbeat: &'h Heartbeat,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.heartbeat.counter.fetch_add(1, Ordering::AcqRel);
    }
}

/// Watches the worker until the worker has ended, which drops the sender of `ended`.
pub(crate) fn watch(state: &Arc<State>, heartbeat: &Heartbeat, ended: &Receiver<()>) {
    let (mut last, mut unchanged) = (0, Duration::ZERO);
    loop {
        let interval = heartbeat.interval();
        match ended.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let counter = heartbeat.counter.load(Ordering::Acquire);
        if counter != last || counter.is_multiple_of(2) {
            (last, unchanged) = (counter, Duration::ZERO);
            continue;
        }
        unchanged += interval;
        if state.has_sled_failed() {
            wake_flush(state);
        }
        if millis(unchanged) >= heartbeat.timeout_millis.load(Ordering::Acquire) {
            state.mark_hung();
        }
    }
}

/// Wakes a flush that waits for a failed write.
///
/// If a write of sled's log thread fails, sled keeps the error, but does not wake the flush that waits for that write
/// (`exit_reservation` in `logger.rs`). Without this function, a flush on a full disk would wait for ever. Every later
/// write wakes the flush, and then fails with the same error and writes nothing. This function makes such a write on a
/// separate thread, because the write may hang, too.
fn wake_flush(state: &Arc<State>) {
    let Some(tree) = state.tree.try_read().and_then(|tree| tree.clone()) else { return };
    let thread = thread::Builder::new().name("kv-sled-wake".to_owned()).spawn(move || {
        // The write always fails, because sled has kept an error.
        let _ = tree.insert(NEVER_WRITTEN, NEVER_WRITTEN);
    });
    // If no thread can be started, the watchdog tries again after its next interval.
    drop(thread);
}

/// The key and the value of the write that wakes a flush. sled refuses this write, so the key and the value are never
/// stored.
const NEVER_WRITTEN: &[u8] = b"";

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use kv_core::{ErrorKind, ManualClock, StoreInfo};

    use super::*;
    use crate::capabilities::CAPABILITIES;
    use crate::config::SledDurability;
    use crate::error::NAME;

    #[tokio::test]
    async fn a_call_without_a_heartbeat_poisons_the_store_and_a_call_with_a_heartbeat_does_not() {
        let info = StoreInfo::new(NAME, CAPABILITIES);
        let clock = Arc::new(ManualClock::new());
        let state = Arc::new(State::new(info, clock, Duration::from_secs(1), SledDurability::Process));
        let heartbeat = Arc::new(Heartbeat::default());
        let (end, ended) = std::sync::mpsc::channel();
        let watchdog = thread::spawn({
            let (state, heartbeat) = (Arc::clone(&state), Arc::clone(&heartbeat));
            move || watch(&state, &heartbeat, &ended)
        });
        let (silent, never) = std::sync::mpsc::channel::<()>();
        let wait = |millis| {
            let _ = never.recv_timeout(Duration::from_millis(millis));
        };
        let busy = heartbeat.begin(Duration::from_millis(400));
        for _ in 0..20 {
            wait(40);
            heartbeat.beat();
        }
        state.check_open().unwrap();
        drop(busy);
        wait(600);
        state.check_open().unwrap();
        let _busy = heartbeat.begin(Duration::from_millis(50));
        state.health.hung().await;
        assert_eq!(state.check_open().unwrap_err().kind(), ErrorKind::Unavailable);
        drop((end, silent));
        watchdog.join().unwrap();
    }
}
