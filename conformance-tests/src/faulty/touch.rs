//! `touch` that does too much or too little, and a sweeper with an outdated index or a wrong count.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, DeleteOptions, Entry, Expires, Expiry, Key, KeyPrefix, KvStore, ListItem, ListPage, ListQuery, NewExpiry,
    Result, SetOptions, SetOutcome, When, delegate_store,
};

use super::faults;
use super::hidden::Hidden;
use super::scan;

faults! { touch:
    /// Reads the value and sets it again in `touch`, which changes the version.
    rewrites_the_entry: "T-5"
        ["touch/the_version_stays", "cancel/touch"]
        |inner, _clock| RewritingTouch { inner };
    /// Returns true from `touch` although there is no entry.
    always_returns_true: "T-5"
        ["touch/of_nothing", "touch/of_a_deleted_one", "touch/zero", "watch/touch_of_nothing_is_not_reported"]
        |inner, _clock| AlwaysTrue { inner };
    /// Ignores a `touch` to an earlier deadline.
    only_extends: "T-5"
        ["touch/shorter", "random/lives"]
        |inner, clock| OnlyExtends { inner, clock };
    /// Ignores a `touch` to a later deadline.
    only_shortens: "T-5"
        ["touch/longer", "shared/touch_is_seen", "processes/touch_is_seen", "touch/again_and_again",
         "touch/from_now_on", "touch/never", "touch/reads_back"]
        |inner, clock| OnlyShortens { inner, clock };
    /// Sweeps a key by an old deadline although the key has been set again since.
    sweeper_uses_an_outdated_index: "T-6"
        ["sweep/set_again_before", "sweep/set_again_meanwhile", "sweep/touched_before"]
        |inner, clock| OutdatedIndex { inner, clock, index: Hidden::default() };
    /// Returns one more than the number of swept entries.
    sweep_counts_one_too_many: "T-6"
        ["sweep/of_nothing", "sweep/deleted_before", "sweep/leaves_the_live", "sweep/takes_the_expired"]
        |inner, _clock| MiscountedSweep { inner };
    /// Marks expired entries as swept and keeps their records.
    sweep_only_marks: "T-6"
        ["sweep/swept_entries_are_gone"]
        |inner, clock| MarksSwept { inner, clock, marked: Hidden::default() };
}

#[derive(Debug)]
struct RewritingTouch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RewritingTouch {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let options = SetOptions::default().with_expiry(expiry.into()).with_when(When::Present);
        Ok(self.inner.set(key, entry.value, &options).await?.is_stored())
    }
}

#[derive(Debug)]
struct AlwaysTrue {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AlwaysTrue {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.inner.touch(key, expiry).await.map(|_| true)
    }
}

#[derive(Debug)]
struct OnlyExtends {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for OnlyExtends {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let wanted = match expiry {
            NewExpiry::After(ttl) => self.clock.now().checked_add(ttl),
            NewExpiry::At(moment) => Some(moment),
            _ => None,
        };
        match (entry.expires, wanted) {
            (Expires::At(deadline), Some(wanted)) if wanted < deadline => Ok(true),
            _ => self.inner.touch(key, expiry).await,
        }
    }
}

#[derive(Debug)]
struct OutdatedIndex {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    index: Hidden<Vec<(SystemTime, Key)>>,
}

#[async_trait]
impl KvStore for OutdatedIndex {
    delegate_store!(self.inner, except set set_many sweep);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        let deadline = match options.expiry {
            Expiry::After(ttl) => self.clock.now().checked_add(ttl),
            Expiry::At(moment) => Some(moment),
            _ => None,
        };
        if let (Some(deadline), true) = (deadline, outcome.is_stored()) {
            self.index.lock().push((deadline, key.clone()));
        }
        Ok(outcome)
    }

    async fn sweep(&self) -> Result<u64> {
        let now = self.clock.now();
        let due: Vec<Key> = {
            let mut index = self.index.lock();
            index.extract_if(.., |(deadline, _)| *deadline <= now).map(|(_, key)| key).collect()
        };
        let swept = self.inner.sweep().await?;
        for key in &due {
            let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
        }
        Ok(swept)
    }
}

#[derive(Debug)]
struct MiscountedSweep {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for MiscountedSweep {
    delegate_store!(self.inner, except sweep);

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await.map(|freed| freed + 1)
    }
}

#[derive(Debug)]
struct OnlyShortens {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for OnlyShortens {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        let Expires::At(deadline) = entry.expires else { return self.inner.touch(key, expiry).await };
        let wanted = match expiry {
            NewExpiry::After(ttl) => self.clock.now().checked_add(ttl),
            NewExpiry::At(moment) => Some(moment),
            _ => None,
        };
        if wanted.is_none_or(|wanted| wanted > deadline) { Ok(true) } else { self.inner.touch(key, expiry).await }
    }
}

/// Writes the deadline in front of the value, so that the inner store removes no record.
#[derive(Debug)]
struct MarksSwept {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    marked: Hidden<HashSet<Key>>,
}

impl MarksSwept {
    /// The deadline of a record, in milliseconds since 1970, and the value.
    fn decode(record: &[u8]) -> (Option<SystemTime>, &[u8]) {
        match record.split_first_chunk() {
            Some((millis, value)) if *millis != [0; 8] => {
                (Some(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(*millis))), value)
            }
            _ => (None, record.get(8..).unwrap_or_default()),
        }
    }

    /// True if the record has expired.
    fn is_expired(&self, record: &[u8]) -> bool {
        Self::decode(record).0.is_some_and(|deadline| deadline <= self.clock.now())
    }
}

#[async_trait]
impl KvStore for MarksSwept {
    delegate_store!(self.inner, except get get_many contains set set_many list sweep);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let mut found = self.inner.get(key).await?.filter(|entry| !self.is_expired(&entry.value));
        if let Some(entry) = &mut found {
            entry.value = Bytes::copy_from_slice(Self::decode(&entry.value).1);
        }
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let millis = match options.expiry {
            Expiry::After(ttl) => {
                let deadline = (self.clock.now() + ttl).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)
            }
            _ => 0,
        };
        let record = [&millis.to_be_bytes()[..], &value].concat();
        self.inner.set(key, record.into(), &SetOptions::default()).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let items = scan::list_all(&*self.inner, &query.prefix, false).await?;
        let is_live = |item: &ListItem| !item.entry.as_ref().is_some_and(|entry| self.is_expired(&entry.value));
        Ok(scan::page(items.into_iter().filter(is_live).collect(), query, |_| true))
    }

    async fn sweep(&self) -> Result<u64> {
        let items = scan::list_all(&*self.inner, &KeyPrefix::ALL, false).await?;
        let expired =
            items.into_iter().filter(|item| item.entry.as_ref().is_some_and(|entry| self.is_expired(&entry.value)));
        let mut marked = self.marked.lock();
        Ok(expired.filter(|item| marked.insert(item.key.clone())).count() as u64)
    }
}
