//! A small store for tests, with configurable capabilities, a record of its calls and a manual clock.
#![allow(dead_code, reason = "each test binary uses a part of this module")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capabilities, Clock, Deadline, DeleteOptions, DeleteOutcome, Entry, Error, Expires, Key, KeyPrefix, Kv, KvStore,
    Limits, List, ListItem, ListPage, ListQuery, ManualClock, NewExpiry, Result, SetOptions, SetOutcome, StoreInfo,
    Version,
};
use tokio::sync::Notify;

/// The Core level and no other capability.
pub(crate) const CORE: Capabilities = Capabilities::CORE;
/// Conditions without versions, so that the handle compares values.
pub(crate) const BY_VALUE: Capabilities = Capabilities::CORE.with_conditions();
/// All capabilities that this store implements.
pub(crate) const FULL: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_touch()
    .with_list(List::Native);
/// All capabilities that this store implements, with a listing that scans.
pub(crate) const SCANNING: Capabilities = FULL.with_list(List::Emulated);

/// A value for which `get_many` returns `Corrupt`.
pub(crate) const DAMAGED: &str = "damaged";
/// A value for which `get_many` returns `Unavailable`.
pub(crate) const UNREACHABLE: &str = "unreachable";

#[derive(Debug, Clone)]
pub(crate) struct Tiny {
    info: StoreInfo,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<Key, (Bytes, Version, Deadline)>>,
    calls: Mutex<Vec<&'static str>>,
    clock: ManualClock,
    fail_next: Mutex<Option<Error>>,
    pause_next: Mutex<Option<Arc<Notify>>>,
}

type Entries = BTreeMap<Key, (Bytes, Version, Deadline)>;

impl Tiny {
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        Self { info: StoreInfo::new("tiny", capabilities), shared: Arc::default() }
    }

    pub(crate) fn with_limits(mut self, limits: Limits) -> Self {
        self.info = self.info.with_limits(limits);
        self
    }

    pub(crate) fn kv(&self) -> Kv {
        Kv::new(self.clone()).with_clock(Arc::new(self.clock()))
    }

    pub(crate) fn clock(&self) -> ManualClock {
        self.shared.clock.clone()
    }

    /// Returns the calls since the previous call of this method.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.shared.calls.lock().unwrap())
    }

    /// Makes the next write return this error. If the write is a `set`, the store applies it nevertheless.
    pub(crate) fn fail_next_write(&self, error: Error) {
        *self.shared.fail_next.lock().unwrap() = Some(error);
    }

    /// Makes the next `get` wait between its read and its return, until the returned `Notify` resumes it.
    pub(crate) fn pause_next_get(&self) -> Arc<Notify> {
        let resume = Arc::new(Notify::new());
        *self.shared.pause_next.lock().unwrap() = Some(Arc::clone(&resume));
        resume
    }

    async fn called(&self, name: &'static str) -> MutexGuard<'_, Entries> {
        // Other tasks run before and after every call, as with a network.
        tokio::task::yield_now().await;
        self.shared.calls.lock().unwrap().push(name);
        let now = self.shared.clock.now();
        let mut entries = self.shared.entries.lock().unwrap();
        entries.retain(|_, (_, _, deadline)| !deadline.has_passed(now));
        entries
    }

    fn entry(&self, (value, version, deadline): &(Bytes, Version, Deadline)) -> Entry {
        let entry = Entry::new(value.clone());
        let entry = if self.info.capabilities.versions { entry.with_version(*version) } else { entry };
        let has_deadlines = self.info.capabilities.deadlines;
        entry.with_expires(if has_deadlines { Expires::from(*deadline) } else { Expires::Unknown })
    }

    fn failed(&self) -> Result<()> {
        self.shared.fail_next.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl KvStore for Tiny {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let entry = self.called("get").await.get(key).map(|stored| self.entry(stored));
        let pause = self.shared.pause_next.lock().unwrap().take();
        match pause {
            Some(resume) => resume.notified().await,
            None => tokio::task::yield_now().await,
        }
        Ok(entry)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())?;
        let mut entries = self.called("set").await;
        let old = entries.get(key).map(|stored| self.entry(stored));
        if !options.when.holds(old.as_ref()) {
            return Ok(SetOutcome::Refused { current: old });
        }
        let version = Version::random();
        let deadline = Deadline::resolve(options.expiry, self.shared.clock.now(), entries.get(key).map(|old| old.2));
        entries.insert(key.clone(), (value, version, deadline));
        self.failed()?;
        let version = self.info.capabilities.versions.then_some(version);
        Ok(SetOutcome::Stored { version, previous: old.filter(|_| options.return_previous) })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        let mut entries = self.called("delete").await;
        let old = entries.get(key).map(|stored| self.entry(stored));
        if !options.when.holds(old.as_ref()) {
            return Ok(DeleteOutcome::Refused { current: old });
        }
        self.failed()?;
        Ok(match entries.remove(key) {
            Some(_) => DeleteOutcome::Deleted { previous: old.filter(|_| options.return_previous) },
            None => DeleteOutcome::Missing,
        })
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let entries = self.called("get_many").await;
        let answer = |key: &Key| match entries.get(key) {
            Some((value, ..)) if value == DAMAGED => Err(Error::corrupt("damaged")),
            Some((value, ..)) if value == UNREACHABLE => Err(Error::unavailable("unreachable")),
            stored => Ok(stored.map(|stored| self.entry(stored))),
        };
        keys.iter().map(answer).collect()
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let entries = self.called("list").await;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let bounds: (Bound<&str>, Bound<&str>) =
            (range.0.as_ref().map(String::as_str), range.1.as_ref().map(String::as_str));
        let item = |(key, stored): (&Key, &(Bytes, Version, Deadline))| ListItem {
            key: key.clone(),
            entry: (!query.keys_only).then(|| self.entry(stored)),
        };
        let mut items: Vec<ListItem> = entries.range::<str, _>(bounds).map(item).collect();
        if query.reverse {
            items.reverse();
        }
        let limit = query.limit.unwrap_or(usize::MAX);
        let next = (items.len() > limit).then(|| items[limit - 1].key.clone());
        items.truncate(limit);
        let is_damaged = |item: &ListItem| item.entry.as_ref().is_some_and(|entry| entry.value == DAMAGED);
        let (damaged, items): (Vec<_>, Vec<_>) = items.into_iter().partition(is_damaged);
        let damaged = damaged.iter().map(|item| Error::corrupt("damaged").with_key(&item.key)).collect();
        Ok(ListPage { items, damaged, next })
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut entries = self.called("clear").await;
        let before = entries.len();
        entries.retain(|key, _| !prefix.covers(key));
        Ok((before - entries.len()) as u64)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.info.capabilities.require(kv_core::Capability::Touch)?;
        let mut entries = self.called("touch").await;
        let Some(stored) = entries.get_mut(key) else { return Ok(false) };
        stored.2 = Deadline::resolve(expiry.into(), self.shared.clock.now(), None);
        Ok(true)
    }
}
