//! The thread that notices when sled does not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::handle::Shared;

/// Signs of life of the worker. Odd: it is inside something that can stand still.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    patience_millis: AtomicU64,
}

impl Pulse {
    /// Marks the time until the guard is dropped as something that must not stand still for longer than this.
    pub(crate) fn begin(&self, patience: Duration) -> Busy<'_> {
        self.patience_millis.store(millis(patience), Ordering::Release);
        self.beats.fetch_add(1, Ordering::AcqRel);
        Busy { pulse: self }
    }

    /// Says that something has moved.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(2, Ordering::AcqRel);
    }

    /// Waits in steps: no more than a few for the patience that was last asked for.
    fn step(&self) -> Duration {
        Duration::from_millis((self.patience_millis.load(Ordering::Acquire) / STEPS).clamp(1, 250))
    }
}

/// How many steps make up the patience, at least.
const STEPS: u64 = 16;

/// While it lives, the worker is inside something that can stand still.
#[derive(Debug)]
pub(crate) struct Busy<'p> {
    pulse: &'p Pulse,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.pulse.beats.fetch_add(1, Ordering::AcqRel);
    }
}

/// Watches until the worker has ended, which drops the other end of `ended`.
pub(crate) fn watch(shared: &Arc<Shared>, pulse: &Pulse, ended: &Receiver<()>) {
    let (mut last, mut still) = (0, Duration::ZERO);
    loop {
        let step = pulse.step();
        match ended.recv_timeout(step) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let beats = pulse.beats.load(Ordering::Acquire);
        if beats != last || beats.is_multiple_of(2) {
            (last, still) = (beats, Duration::ZERO);
            continue;
        }
        still += step;
        if has_failed_inside(shared) {
            poke(shared);
        }
        if millis(still) >= pulse.patience_millis.load(Ordering::Acquire) {
            shared.health.hang();
        }
    }
}

/// Whether one of sled's own threads has met an error.
fn has_failed_inside(shared: &Shared) -> bool {
    shared.settings.get().is_some_and(|settings| settings.global_error().is_err())
}

/// Wakes a flush that waits for a write which has failed.
///
/// sled's thread that writes to the log keeps its error but does not wake whoever waits for it (`exit_reservation` in
/// `logger.rs`), so a flush on a full disk would sleep for ever. Every later write does wake them, before it fails with the
/// same error and without having written anything. It gets a thread of its own, as it could stand still, too.
fn poke(shared: &Arc<Shared>) {
    let Some(tree) = shared.tree.try_read().and_then(|tree| tree.clone()) else { return };
    let poke = thread::Builder::new().name("kv-sled-poke".to_owned()).spawn(move || {
        // It fails, as sled's error stays.
        let _ = tree.insert(POKE, POKE);
    });
    // Without a thread to be had it is tried again at the next step.
    drop(poke);
}

/// Never written: sled refuses every write when this one is tried.
const POKE: &[u8] = b"";

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use kv_core::{ErrorKind, ManualClock};

    use super::*;
    use crate::config::SledDurability;

    #[tokio::test]
    async fn what_moves_is_left_alone_and_what_stands_still_is_given_up() {
        let shared =
            Arc::new(Shared::new(Arc::new(ManualClock::new()), Duration::from_secs(1), SledDurability::Process));
        let pulse = Arc::new(Pulse::default());
        let (ended, watched) = std::sync::mpsc::channel();
        let dog = thread::spawn({
            let (shared, pulse) = (Arc::clone(&shared), Arc::clone(&pulse));
            move || watch(&shared, &pulse, &watched)
        });
        let (quiet, never) = std::sync::mpsc::channel::<()>();
        let wait = |millis| {
            let _ = never.recv_timeout(Duration::from_millis(millis));
        };
        let busy = pulse.begin(Duration::from_millis(400));
        for _ in 0..20 {
            wait(40);
            pulse.beat();
        }
        shared.health.check().unwrap();
        drop(busy);
        wait(600);
        shared.health.check().unwrap();
        let _busy = pulse.begin(Duration::from_millis(50));
        shared.health.hung().await;
        assert_eq!(shared.health.check().unwrap_err().kind(), ErrorKind::Unavailable);
        drop((ended, quiet));
        dog.join().unwrap();
    }
}
