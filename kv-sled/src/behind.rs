//! Write-behind: writes that are acknowledged before sled has them, where the durability allows it.
//!
//! The way to the store's thread and back costs a caller more than a write does, and a batch of one costs sled nearly as much
//! as a batch of hundreds. So with `Interval` a caller judges its write itself, over the tree and what waits here, and leaves
//! it here. The store's thread writes what waits as one batch, when it is much and at the latest after half of the interval,
//! and what was written over meanwhile is written once. Reads look here first.

use std::collections::BTreeMap;
use std::mem;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{Error, Key, Result};
use parking_lot::{RwLock, RwLockWriteGuard};
use sled::IVec;
use tokio::sync::Notify;

use crate::changes::{Changes, Record};
use crate::draft::Draft;
use crate::gate;
use crate::handle::Shared;
use crate::health::Trouble;
use crate::operations::BRIEF;
use crate::request::About;
use crate::stats::count;

/// So many records, or bytes of them, are written at once.
const MUCH: usize = 4_096;
const MUCH_BYTES: usize = 4 << 20;

/// More than this many times as much does not wait: the store's thread is behind, and callers wait for it.
const TOO_MUCH: usize = 4;

/// What is longer is copied on the store's thread.
const LONG_BYTES: usize = 64 << 10;

/// What waits to be written. It is locked before the tree and the gate.
#[derive(Debug)]
pub(crate) struct Behind {
    waiting: RwLock<Layers>,
    /// How many bytes may wait: none without room on the file system, and none in a store that is closing.
    room: AtomicU64,
    wake: Notify,
}

/// Changes in two layers, the upper one judged over the lower.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) changes: Changes,
    /// What is just being written.
    pub(crate) going: Option<Arc<Changes>>,
}

impl Layers {
    fn record(&self, key: &Key) -> Option<&Record> {
        let going = || self.going.as_ref().and_then(|going| going.records.get(key));
        self.changes.records.get(key).or_else(going)
    }

    /// How many bytes wait.
    fn bytes(&self) -> usize {
        self.changes.bytes + self.going.as_ref().map_or(0, |going| going.bytes)
    }

    fn is_much(&self, times: usize) -> bool {
        self.changes.records.len() >= MUCH * times || self.changes.bytes >= MUCH_BYTES * times
    }
}

impl Behind {
    pub(crate) fn new() -> Self {
        Self { waiting: RwLock::default(), room: AtomicU64::new(0), wake: Notify::new() }
    }

    /// How many bytes may wait from now on. Who is just leaving some here holds the lock.
    pub(crate) fn admit(&self, bytes: u64) {
        self.room.store(bytes, Ordering::SeqCst);
    }

    /// Waits until something has come to be written, or so much that it should be now.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether something waits. Who is asked waits for nobody: where somebody is just leaving a write here, it does.
    pub(crate) fn has_some(&self) -> bool {
        self.waiting.try_read().is_none_or(|waiting| !waiting.changes.records.is_empty())
    }

    /// Whether much waits, in the same way.
    pub(crate) fn has_much(&self) -> bool {
        self.waiting.try_read().is_none_or(|waiting| waiting.is_much(1))
    }

    /// What waits, for whoever writes it together with more: nothing comes here and nothing is read here meanwhile.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Layers> {
        self.waiting.write()
    }

    /// What waits, for whoever writes it. It can be read here until [`Behind::written`].
    pub(crate) fn begin(&self) -> Arc<Changes> {
        let mut waiting = self.waiting.write();
        let going = Arc::new(mem::take(&mut waiting.changes));
        waiting.going = Some(Arc::clone(&going));
        going
    }

    /// Says that what was begun with is in the tree.
    pub(crate) fn written(&self) {
        self.waiting.write().going = None;
    }

    /// What waits for a key; `None` where that could not be found out in time.
    pub(crate) fn look(&self, key: &Key, patience: Duration) -> Option<Found> {
        let waiting = self.waiting.try_read_for(patience)?;
        Some(waiting.record(key).map_or(Found::Nothing, |record| Found::Stored(record.after.clone())))
    }

    /// What waits for keys of a range, in their order.
    pub(crate) fn in_range(
        &self,
        (start, end): &(Bound<String>, Bound<String>),
        patience: Duration,
    ) -> Option<BTreeMap<Key, Option<IVec>>> {
        let waiting = self.waiting.try_read_for(patience)?;
        let range = (start.as_ref().map(String::as_str), end.as_ref().map(String::as_str));
        let layers = waiting.going.iter().map(|going| &**going).chain([&waiting.changes]);
        let records = layers
            .flat_map(|layer| &layer.records)
            .filter(|(key, _)| RangeBounds::<str>::contains(&range, key.as_str()));
        Some(records.map(|(key, record)| (key.clone(), record.after.clone())).collect())
    }
}

/// What waits for one key.
pub(crate) enum Found {
    /// Nothing: the tree is right.
    Nothing,
    /// What is to be stored, or that nothing is to be any more.
    Stored(Option<IVec>),
}

impl Shared {
    /// Judges a write on the caller's thread and leaves it to be written. Gives it back where that cannot be done at once.
    pub(crate) fn judge_here<T, J>(&self, about: &About<'_>, judge: J) -> Result<Result<T>, J>
    where
        J: FnOnce(&mut Draft<'_>) -> Result<T>,
    {
        let Some(behind) = self.behind.as_ref().filter(|_| about.bytes <= LONG_BYTES) else { return Err(judge) };
        let Some(mut waiting) = behind.waiting.try_write_for(BRIEF) else { return Err(judge) };
        let has_room = ((waiting.bytes() + about.bytes) as u64) < behind.room.load(Ordering::SeqCst);
        if !has_room || waiting.is_much(TOO_MUCH) || self.health.check().is_err() {
            return Err(judge);
        }
        let Some(tree) = self.tree.try_read() else { return Err(judge) };
        let Some(tree) = &*tree else { return Err(judge) };
        let needs_tree = about.key.is_none_or(|key| waiting.record(key).is_none());
        let beside = if needs_tree { gate::shared(Duration::ZERO) } else { None };
        if needs_tree && beside.is_none() {
            return Err(judge);
        }
        let was_empty = waiting.changes.records.is_empty();
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let (changes, going) = (mem::take(&mut waiting.changes), waiting.going.clone());
            let mut draft = Draft::over(tree, self.clock.now(), changes, going);
            let answer = judge(&mut draft);
            (answer, draft.take_trouble(), draft.end())
        }));
        let Ok((answer, trouble, (changes, keys))) = judged else {
            self.health.poison(Trouble::panicked("a write"));
            return Ok(Err(Error::unavailable(self.health.story())));
        };
        if let Some(trouble) = trouble {
            self.health.poison(trouble);
        }
        waiting.changes = changes;
        count(&self.counts.writes, 1);
        for key in &keys {
            self.changes.notify(key);
        }
        if was_empty || waiting.is_much(1) {
            behind.wake.notify_one();
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{IncrementOptions, ManualClock, Version, stored};
    use parking_lot::{Mutex, MutexGuard};

    use super::*;
    use crate::codec::data_key;
    use crate::config::SledDurability;
    use crate::decide;
    use crate::ledger::Ledger;

    /// The gate is that of the whole process, and tests run at once.
    static TURN: Mutex<()> = Mutex::new(());

    fn shared() -> (sled::Db, Shared, MutexGuard<'static, ()>) {
        let turn = TURN.lock();
        let db = sled::Config::new().temporary(true).open().unwrap();
        let durability = SledDurability::Interval(Duration::from_secs(1));
        let shared = Shared::new(Arc::new(ManualClock::new()), Duration::from_secs(1), durability);
        *shared.tree.write() = Some((*db).clone());
        shared.behind.as_ref().unwrap().admit(u64::MAX);
        (db, shared, turn)
    }

    fn increment(shared: &Shared, key: &Key) -> Option<i64> {
        let options = IncrementOptions::default();
        let judge = |draft: &mut Draft<'_>| decide::increment(draft, key, 1, Version::random(), &options);
        shared.judge_here(&About::key(key, None, 8), judge).ok().map(Result::unwrap)
    }

    fn waiting(shared: &Shared, key: &Key) -> Option<Vec<u8>> {
        match shared.behind.as_ref().unwrap().look(key, Duration::ZERO).unwrap() {
            Found::Nothing => None,
            Found::Stored(stored) => Some(stored.unwrap()[stored::HEADER_BYTES..].to_vec()),
        }
    }

    #[test]
    fn what_comes_while_some_is_written_is_judged_and_counted_over_that() {
        let (_db, shared, _turn) = shared();
        let (behind, key) = (shared.behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        assert_eq!(waiting(&shared, &key), None);
        assert_eq!(increment(&shared, &key), Some(1));
        let going = behind.begin();
        assert_eq!(waiting(&shared, &key), Some(b"1".to_vec()));
        assert_eq!(increment(&shared, &key), Some(2));
        assert_eq!(waiting(&shared, &key), Some(b"2".to_vec()));
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(behind.in_range(&everything, Duration::ZERO).unwrap().len(), 1);
        behind.written();
        let first = going.applicable(Ledger::default()).unwrap().ledger;
        let second = mem::take(&mut behind.lock().changes).applicable(first).unwrap();
        assert_eq!(second.ledger.records(), 1);
        assert_eq!(waiting(&shared, &key), None);
    }

    #[test]
    fn bytes_that_are_replaced_are_not_counted() {
        let (_db, shared, _turn) = shared();
        let (behind, key) = (shared.behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        for _ in 0..100 {
            increment(&shared, &key);
        }
        let bytes = behind.lock().changes.bytes;
        assert!((1..=stored::HEADER_BYTES + data_key(&key).len() + 3).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_cannot_wait_is_given_back() {
        let (_db, shared, _turn) = shared();
        let (behind, key) = (shared.behind.as_ref().unwrap(), Key::new(["k"]).unwrap());
        let long = About::key(&key, None, LONG_BYTES);
        assert!(shared.judge_here(&long, |_: &mut Draft<'_>| Ok(())).is_err());
        let guard = gate::exclusive(Duration::ZERO).unwrap();
        assert_eq!(increment(&shared, &key), None);
        drop(guard);
        assert_eq!(increment(&shared, &key), Some(1));
        // What waits already needs no way into sled.
        let guard = gate::exclusive(Duration::ZERO).unwrap();
        assert_eq!(increment(&shared, &key), Some(2));
        drop(guard);
        behind.admit(0);
        assert_eq!(increment(&shared, &key), None);
        assert_eq!(waiting(&shared, &key), Some(b"2".to_vec()));
    }
}
