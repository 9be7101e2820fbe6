//! Handles that keep copies of entries for a declared time: one that is right, and broken ones.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capability, ChangeSink, Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, GetOptions,
    GetOutcome, IncrementOptions, Key, KeyPrefix, KvStore, ListPage, ListQuery, Moment, NewExpiry, Reads, Registration,
    Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream, WatchTarget, When,
    delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { near:
    /// Keeps its copy of an entry that the handle itself overwrites.
    own_writes_are_not_read: "G-3"
        ["bounded_reads/show_own_writes"]
        |inner, clock| Near::new(inner, clock, Some(Defect::KeepsOverwritten));
    /// Keeps its copy of an entry of which a list showed a newer one.
    lists_are_ahead: "G-3"
        ["bounded_reads/of_two_handles_never_go_back"]
        |inner, clock| Near::new(inner, clock, Some(Defect::KeepsListed));
    /// Keeps its copy of an entry of which a refused set showed a newer one.
    refusals_are_ahead: "G-3"
        ["bounded_reads/of_two_handles_never_go_back"]
        |inner, clock| Near::new(inner, clock, Some(Defect::KeepsRefused));
    /// Keeps copies for ten times the declared time.
    copies_are_too_old: "G-3"
        ["bounded_reads/show_other_handles_in_time"]
        |inner, clock| Near::new(inner, clock, Some(Defect::KeepsLong));
    /// Answers `get_with` with `fresh` from its copies.
    fresh_reads_are_copies: "G-4"
        ["bounded_reads/fresh_reads_show_other_handles_at_once"]
        |inner, clock| Near::new(inner, clock, Some(Defect::FreshFromCopies));
    /// Judges conditions by its copies.
    conditions_are_judged_by_copies: "G-3"
        ["bounded_reads/conditions_are_judged_by_the_store"]
        |inner, clock| Near::new(inner, clock, Some(Defect::JudgesByCopies));
}

/// Wraps a store, whose clock is the second argument, in one that keeps copies of entries for 20 ms and declares that.
/// It is not broken.
pub fn near_tier(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>) -> Arc<dyn KvStore> {
    Arc::new(Near::new(inner, clock, None))
}

/// The age up to which a copy is returned.
const BOUND: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    KeepsOverwritten,
    KeepsListed,
    KeepsRefused,
    KeepsLong,
    FreshFromCopies,
    JudgesByCopies,
}

struct Near {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    info: StoreInfo,
    copies: Hidden<Copies>,
    defect: Option<Defect>,
}

#[derive(Default)]
struct Copies {
    /// The entry of each key, and the moment at which its read began.
    entries: HashMap<Key, (Moment, Option<Entry>)>,
    /// The number of changes of `entries`. A read keeps its entry only if there was no change since it began.
    changes: u64,
    /// True if reads return no copies, because the handle has a watch or is closed.
    is_unused: bool,
}

impl Copies {
    fn forget(&mut self, is_forgotten: impl Fn(&Key) -> bool) {
        self.changes += 1;
        self.entries.retain(|key, _| !is_forgotten(key));
    }
}

/// The entry of a key, or `None` if the key is absent.
struct Copied(Option<Entry>);

impl Near {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, defect: Option<Defect>) -> Self {
        let mut info = inner.info().clone();
        info.capabilities = info.capabilities.with_bounded_reads();
        info.capabilities.sinks = false;
        info.watch_loss_bound = Duration::MAX;
        info.reads = Reads::Bounded(BOUND);
        Self { inner, clock, info, copies: Hidden::default(), defect }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// The copy that a read may return, if there is one. The copy of an absent key is `Some(Copied(None))`.
    fn copy(&self, key: &Key) -> Option<Copied> {
        let bound = if self.has(Defect::KeepsLong) { BOUND * 10 } else { BOUND };
        let copies = self.copies.lock();
        let (read, entry) = copies.entries.get(key)?;
        if read.elapsed() >= bound || copies.is_unused {
            return None;
        }
        let now = self.clock.now();
        let is_live = |entry: &&Entry| !matches!(entry.expires, Expires::At(deadline) if deadline <= now);
        Some(Copied(entry.as_ref().filter(is_live).cloned()))
    }

    /// Forgets the copies of these keys now, and again when the returned value is dropped.
    fn writing<F: Fn(&Key) -> bool>(&self, is_written: F) -> Writing<'_, F> {
        let is_kept = self.has(Defect::KeepsOverwritten);
        let writing = Writing { near: self, is_written, is_kept };
        writing.forget();
        writing
    }
}

/// Forgets copies on drop.
struct Writing<'n, F: Fn(&Key) -> bool> {
    near: &'n Near,
    is_written: F,
    is_kept: bool,
}

impl<F: Fn(&Key) -> bool> Writing<'_, F> {
    fn forget(&self) {
        if !self.is_kept {
            self.near.copies.lock().forget(&self.is_written);
        }
    }
}

impl<F: Fn(&Key) -> bool> Drop for Writing<'_, F> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Near {
    delegate_store!(self.inner, except
        info get get_with contains get_many list set delete set_many delete_many clear touch increment commit watch
        watch_into close);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if let Some(Copied(copy)) = self.copy(key) {
            return Ok(copy);
        }
        let (began, changes) = (Moment::now(), self.copies.lock().changes);
        let entry = self.inner.get(key).await?;
        let mut copies = self.copies.lock();
        if copies.changes == changes {
            copies.changes += 1;
            copies.entries.insert(key.clone(), (began, entry.clone()));
        } else {
            // The entry may be newer than the copy, and a later read must not return an older one.
            copies.forget(|other| other == key);
        }
        Ok(entry)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        if options.fresh && !self.has(Defect::FreshFromCopies) {
            let outcome = self.inner.get_with(key, options).await;
            self.copies.lock().forget(|other| other == key);
            return outcome;
        }
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            entries.push(self.get(key).await);
        }
        entries
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let page = self.inner.list(query).await;
        if !self.has(Defect::KeepsListed) {
            self.copies.lock().forget(|key| query.prefix.covers(key));
        }
        page
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if let (true, Some(Copied(Some(copy)))) = (self.has(Defect::JudgesByCopies), self.copy(key)) {
            let holds = match &options.when {
                When::Version(version) => copy.version.as_ref() == Some(version),
                When::Value(value) => copy.value == *value,
                _ => false,
            };
            if holds {
                let _writing = self.writing(|other| other == key);
                return self.inner.set(key, value, &options.clone().with_when(When::Always)).await;
            }
        }
        if self.has(Defect::KeepsRefused) && options.when == When::Absent {
            return self.inner.set(key, value, options).await;
        }
        let _writing = self.writing(|other| other == key);
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let _writing = self.writing(|other| other == key);
        self.inner.delete(key, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let _writing = self.writing(|key| items.iter().any(|item| item.key == *key));
        self.inner.set_many(items).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let _writing = self.writing(|key| keys.contains(key));
        self.inner.delete_many(keys).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let _writing = self.writing(|key| prefix.covers(key));
        self.inner.clear(prefix).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let _writing = self.writing(|other| other == key);
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let _writing = self.writing(|other| other == key);
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        // A failed check shows that a copy may be old.
        let _writing = self.writing(|key| transaction.keys().any(|other| other == key));
        self.inner.commit(transaction).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        // A read after a report must return that write or a newer one (clause W-7), so a watched handle uses no copies.
        self.copies.lock().is_unused = true;
        self.inner.watch(query).await
    }

    async fn watch_into(&self, _target: &WatchTarget, _sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        Err(Error::unsupported(Capability::Sinks).with_backend(self.info.name.clone()))
    }

    async fn close(&self) -> Result<()> {
        self.copies.lock().is_unused = true;
        self.inner.close().await
    }
}
