//! Changes that the worker applies together with the write-behind buffer.

use std::mem;
use std::sync::Arc;
use std::thread;

use kv_core::{Key, Result};

use crate::batch_builder::BatchBuilder;
use crate::database::{Database, Stop};
use crate::health::Poison;
use crate::pending::PendingChanges;
use crate::state::State;
use crate::write_behind::WriteBehind;

impl Database {
    /// Evaluates writes and applies their changes together with the write-behind buffer. Notifies the watchers. Returns
    /// the result of `evaluate`, and the keys that it changed.
    pub(crate) fn change<T>(
        &mut self,
        evaluate: impl FnOnce(&State, &mut BatchBuilder<'_>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Key>), Stop> {
        // Apply the buffer before it is locked. The locked part then holds only the few writes that came during this
        // first step, so callers that use the buffer wait only briefly.
        self.apply_pending()?;
        self.change_with_buffer(evaluate)
    }

    /// Locks the buffer, and applies its changes and those of `evaluate` as one batch.
    ///
    /// A failure or a panic drops the acknowledged changes of the buffer. Reads wait for the lock of the buffer and check
    /// the health afterwards. Therefore the store is poisoned before the lock is released: no read returns an older entry
    /// than the sinks were told of (clause W-5).
    fn change_with_buffer<T>(
        &mut self,
        evaluate: impl FnOnce(&State, &mut BatchBuilder<'_>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Key>), Stop> {
        let state = Arc::clone(&self.state);
        let mut layers = state.write_behind.as_ref().map(WriteBehind::lock);
        // Declared after `layers`, so that it is dropped first.
        let _poisoning = PoisonOnPanic(&state);
        let pending = layers.as_deref_mut().map(|layers| mem::take(&mut layers.changes)).unwrap_or_default();
        let done = self.evaluate_and_apply(&state, pending, evaluate);
        if layers.is_some()
            && let Err(stop) = &done
        {
            state.poison(stop.cause());
        }
        done
    }

    fn evaluate_and_apply<T>(
        &mut self,
        state: &State,
        pending: PendingChanges,
        evaluate: impl FnOnce(&State, &mut BatchBuilder<'_>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Key>), Stop> {
        let mut batch = BatchBuilder::new(self.tree(), state.clock.now(), pending, None);
        let evaluated = evaluate(state, &mut batch)?;
        if let Some(poison) = batch.take_poison() {
            return Err(Stop::Poisoned(poison));
        }
        let (changes, keys) = batch.finish();
        self.apply(&changes, &keys)?;
        Ok((evaluated, keys))
    }
}

/// Poisons the store when it is dropped by a panic.
struct PoisonOnPanic<'s>(&'s State);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.poison(Poison::panicked("a write"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use futures_util::FutureExt;
    use kv_core::{Entry, Error, ErrorKind, IncrementOptions, ManualClock, StoreInfo, Version};

    use super::*;
    use crate::capabilities::CAPABILITIES;
    use crate::config::SledDurability;
    use crate::error::NAME;
    use crate::evaluate;
    use crate::presence::Presence;
    use crate::process_lock::SERIAL;
    use crate::request::WriteInfo;
    use crate::storage::Storage;
    use crate::tree_checksum::TreeChecksum;

    fn open(folder: &tempfile::TempDir) -> Database {
        let db = sled::Config::new().path(folder.path()).open().unwrap();
        let files = (Storage::open(folder.path()).unwrap(), Presence::new(folder.path()).unwrap());
        let durability = SledDurability::Interval(Duration::from_secs(1));
        let info = StoreInfo::new(NAME, CAPABILITIES);
        let state = State::new(info, Arc::new(ManualClock::new()), Duration::from_secs(10), durability);
        *state.tree.write() = Some((*db).clone());
        state.write_behind.as_ref().unwrap().set_max_bytes(u64::MAX);
        Database::new(db, TreeChecksum::default(), files, Arc::new(state), durability)
    }

    /// Waits until the reader has ended, so that nothing happens between the release of the buffer's lock and the read.
    struct Wait(Receiver<()>);

    impl Drop for Wait {
        fn drop(&mut self) {
            let _ = self.0.recv_timeout(Duration::from_secs(20));
        }
    }

    /// Fails a write with `fail` while the buffer has an acknowledged write. Returns the result of a read of that key
    /// that waits for the buffer meanwhile, and the kind of the error of a write at the same moment.
    fn read_after(fail: fn() -> Stop) -> (Result<Option<Entry>>, Option<ErrorKind>) {
        let _serial = SERIAL.lock();
        let folder = tempfile::tempdir().unwrap();
        let mut database = open(&folder);
        let (state, key) = (Arc::clone(&database.state), Key::new(["k"]).unwrap());
        let options = IncrementOptions::default();
        let increment = |batch: &mut BatchBuilder<'_>| evaluate::increment(batch, &key, 1, Version::random(), &options);
        let acknowledged = state.write_inline(&WriteInfo::key(&key, None, 8), increment).ok();
        assert_eq!(acknowledged.unwrap().unwrap(), 1);
        assert!(state.get(&key).now_or_never().unwrap().unwrap().is_some());

        let (start, started) = channel();
        let (end, ended) = channel::<()>();
        let reader = thread::spawn(move || {
            started.recv().unwrap();
            let read = state.get(&key).now_or_never().unwrap();
            let write = state.health.check_write().err().map(|error| error.kind());
            drop(end);
            (read, write)
        });
        let done = database.run(|database| {
            let _wait = Wait(ended);
            database.change_with_buffer(|_, _| {
                start.send(()).unwrap();
                Err::<(), _>(fail())
            })
        });
        assert!(done.is_err());
        reader.join().unwrap()
    }

    #[test]
    fn no_read_finds_the_entries_from_before_acknowledged_writes_that_an_error_drops() {
        let (read, write) = read_after(|| Stop::Unknown(Error::capacity("full")));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
        // The first cause is kept.
        assert_eq!(write, Some(ErrorKind::Capacity));
    }

    #[test]
    fn no_read_finds_the_entries_from_before_acknowledged_writes_that_a_panic_drops() {
        let (read, write) = read_after(|| panic!("the evaluation of a write panics"));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(write, Some(ErrorKind::Unavailable));
    }
}
