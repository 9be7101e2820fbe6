//! Inline writes: the caller's thread evaluates the write and adds the change to the write-behind buffer.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kv_core::{Error, Result};

use crate::batch_builder::BatchBuilder;
use crate::health::Poison;
use crate::process_lock::{self, INLINE_WAIT};
use crate::request::WriteInfo;
use crate::state::State;
use crate::stats::count;

/// The maximum number of bytes of an inline write. A larger write is queued, because copying it would block the
/// caller's thread for too long.
const MAX_INLINE_BYTES: usize = 64 << 10;

impl State {
    /// Evaluates a write on the caller's thread and adds its change to the buffer. If the write has to be queued
    /// instead, returns `evaluate` in `Err`.
    pub(crate) fn write_inline<T, E>(&self, info: &WriteInfo<'_>, evaluate: E) -> Result<Result<T>, E>
    where
        E: FnOnce(&mut BatchBuilder<'_>) -> Result<T>,
    {
        let Some(write_behind) = self.write_behind.as_ref().filter(|_| info.bytes <= MAX_INLINE_BYTES) else {
            return Err(evaluate);
        };
        let Some(mut layers) = write_behind.try_lock(INLINE_WAIT) else { return Err(evaluate) };
        if !write_behind.has_capacity(&layers, info.bytes) || self.check_open().is_err() {
            return Err(evaluate);
        }
        let Some(tree) = self.tree.try_read() else { return Err(evaluate) };
        let Some(tree) = &*tree else { return Err(evaluate) };
        let needs_tree = info.key.is_none_or(|key| layers.record(key).is_none());
        let shared = if needs_tree { process_lock::shared(Duration::ZERO) } else { None };
        if needs_tree && shared.is_none() {
            return Err(evaluate);
        }
        let was_empty = layers.changes.records.is_empty();
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let (changes, flushing) = (mem::take(&mut layers.changes), layers.flushing.clone());
            let mut batch = BatchBuilder::new(tree, self.clock.now(), changes, flushing);
            let response = evaluate(&mut batch);
            (response, batch.take_poison(), batch.finish())
        }));
        let Ok((response, poison, (changes, keys))) = evaluated else {
            self.poison(Poison::panicked("a write"));
            return Ok(Err(Error::unavailable(self.health.poison_text())));
        };
        if let Some(poison) = poison {
            self.poison(poison);
        }
        layers.changes = changes;
        count(&self.counters.writes, 1);
        // Reads of these keys wait for the lock of the buffer, which is still held.
        for key in &keys {
            self.changes.notify(key);
        }
        if was_empty || layers.is_due() {
            write_behind.notify();
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;
    use std::sync::Arc;

    use kv_core::{IncrementOptions, Key, ManualClock, StoreInfo, Version, stored};
    use parking_lot::MutexGuard;

    use super::*;
    use crate::capabilities::CAPABILITIES;
    use crate::codec::data_key;
    use crate::config::SledDurability;
    use crate::error::NAME;
    use crate::evaluate;
    use crate::process_lock::SERIAL;
    use crate::tree_checksum::TreeChecksum;
    use crate::write_behind::Lookup;

    fn state() -> (sled::Db, State, MutexGuard<'static, ()>) {
        let serial = SERIAL.lock();
        let db = sled::Config::new().temporary(true).open().unwrap();
        let durability = SledDurability::Interval(Duration::from_secs(1));
        let info = StoreInfo::new(NAME, CAPABILITIES);
        let state = State::new(info, Arc::new(ManualClock::new()), Duration::from_secs(1), durability);
        *state.tree.write() = Some((*db).clone());
        state.write_behind.as_ref().unwrap().set_max_bytes(u64::MAX);
        (db, state, serial)
    }

    fn increment(state: &State, key: &Key) -> Option<i64> {
        let options = IncrementOptions::default();
        let evaluate = |batch: &mut BatchBuilder<'_>| evaluate::increment(batch, key, 1, Version::random(), &options);
        state.write_inline(&WriteInfo::key(key, None, 8), evaluate).ok().map(Result::unwrap)
    }

    fn pending(state: &State, key: &Key) -> Option<Vec<u8>> {
        match state.write_behind.as_ref().unwrap().get(key, Duration::ZERO).unwrap() {
            Lookup::Absent => None,
            Lookup::Pending(stored) => Some(stored.unwrap()[stored::HEADER_BYTES..].to_vec()),
        }
    }

    #[test]
    fn a_write_during_a_flush_is_evaluated_after_the_flushed_changes_and_counts_its_record_once() {
        let (_db, state, _serial) = state();
        let (write_behind, key) = (state.write_behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        assert_eq!(pending(&state, &key), None);
        assert_eq!(increment(&state, &key), Some(1));
        let flushing = write_behind.begin_flush();
        assert_eq!(pending(&state, &key), Some(b"1".to_vec()));
        assert_eq!(increment(&state, &key), Some(2));
        assert_eq!(pending(&state, &key), Some(b"2".to_vec()));
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(write_behind.range(&everything, Duration::ZERO).unwrap().len(), 1);
        write_behind.end_flush();
        let first = flushing.to_batch(TreeChecksum::default()).unwrap().checksum;
        let second = mem::take(&mut write_behind.lock().changes).to_batch(first).unwrap();
        assert_eq!(second.checksum.records(), 1);
        assert_eq!(pending(&state, &key), None);
    }

    #[test]
    fn replaced_values_do_not_count_as_buffered_bytes() {
        let (_db, state, _serial) = state();
        let (write_behind, key) = (state.write_behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        for _ in 0..100 {
            increment(&state, &key);
        }
        let bytes = write_behind.lock().changes.bytes;
        assert!((1..=stored::HEADER_BYTES + data_key(&key).len() + 3).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_write_that_cannot_be_buffered_is_returned_to_be_queued() {
        let (_db, state, _serial) = state();
        let (write_behind, key) = (state.write_behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        let long = WriteInfo::key(&key, None, MAX_INLINE_BYTES);
        assert!(state.write_inline(&long, |_: &mut BatchBuilder<'_>| Ok(())).is_err());
        let guard = process_lock::exclusive(Duration::ZERO).unwrap();
        assert_eq!(increment(&state, &key), None);
        drop(guard);
        assert_eq!(increment(&state, &key), Some(1));
        // The key has a pending record now, so the write does not read the tree and needs no process-wide lock.
        let guard = process_lock::exclusive(Duration::ZERO).unwrap();
        assert_eq!(increment(&state, &key), Some(2));
        drop(guard);
        write_behind.set_max_bytes(0);
        assert_eq!(increment(&state, &key), None);
        assert_eq!(pending(&state, &key), Some(b"2".to_vec()));
    }
}
