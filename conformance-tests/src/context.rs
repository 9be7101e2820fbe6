//! What a case works with: its own store, time, and short words for common steps.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{
    Capabilities, Capability, Clock, DeleteOptions, Entry, Expiry, IntoKey, IntoPrefix, Key, KeyPrefix, KvStore,
    Limits, ListItem, ListQuery, SetItem, SetOptions, SetOutcome, SystemClock, Version,
};

use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;
use crate::suite::{Fresh, Suite};

/// A case's own store and what surrounds it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    suite: Suite,
    fresh: Fresh,
    store: Recorder,
    /// Whether the second handle is in another process.
    is_across: bool,
}

impl Context {
    /// How far from its deadline an entry may come and go where the clock is not moved: more than clause T-2 allows, so that
    /// a busy machine breaks no case.
    const TOLERANCE: Duration = Duration::from_millis(50);
    /// How many writes go into one `set_many`.
    const BATCH: usize = 5_000;

    pub(crate) fn new(suite: Suite, fresh: Fresh, store: Recorder) -> Self {
        Self { suite, fresh, store, is_across: false }
    }

    /// The store; what is done to it is remembered for the failure text. Clones are the same store.
    pub(crate) fn store(&self) -> &Recorder {
        &self.store
    }

    /// What the store declared before it was opened.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.suite.capabilities
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.suite.capabilities.has(capability)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.store.info().limits
    }

    /// The seed for whatever the case does at random.
    pub(crate) fn seed(&self) -> u64 {
        self.suite.seed
    }

    /// How many random scripts a case plays.
    pub(crate) fn scripts(&self) -> usize {
        self.suite.scripts
    }

    /// The time as the store sees it, where the case moves the clock; the system's otherwise.
    pub(crate) fn now(&self) -> SystemTime {
        if self.suite.hooks.clock { self.fresh.clock().now() } else { SystemClock.now() }
    }

    /// Whether the case moves the store's clock, so that time is exact.
    pub(crate) fn moves_clock(&self) -> bool {
        self.suite.hooks.clock
    }

    /// Lets time pass for the store: moves its clock, or waits.
    pub(crate) async fn pass(&self, duration: Duration) {
        if self.suite.hooks.clock {
            self.fresh.clock().advance(duration);
        } else {
            SystemClock.sleep(duration).await;
        }
    }

    /// Lets time pass until an entry that has just been written with this time to live is absent.
    pub(crate) async fn outlive(&self, ttl: Duration) {
        self.pass(if self.moves_clock() { ttl } else { ttl + Self::TOLERANCE }).await;
    }

    /// Whether this moment is surely still ahead of the store.
    pub(crate) fn is_before(&self, moment: SystemTime) -> bool {
        self.now() + if self.moves_clock() { Duration::ZERO } else { Self::TOLERANCE } < moment
    }

    /// Lets real time pass, for work that happens beside the store's clock.
    pub(crate) async fn wait(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }

    /// The same, with a second handle that is in another process.
    pub(crate) fn across_processes(mut self) -> Self {
        self.is_across = true;
        self
    }

    /// A second handle on the same store, opened anew.
    pub(crate) async fn second_handle(&self) -> Result<Recorder, Failure> {
        if self.is_across {
            return Ok(self.store.beside(self.suite.open_elsewhere(&self.fresh).await?, "other process"));
        }
        Ok(self.store.beside(self.suite.open(&self.fresh).await?, "second handle"))
    }

    /// Another store than the case's own, on the same backend. The case clears it.
    pub(crate) async fn other_store(&self) -> Result<Recorder, Failure> {
        let store = self.suite.open(&Fresh::new(self.fresh.name(), self.suite.seed)).await?;
        Ok(self.store.beside(store, "other store"))
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopen(&mut self) -> Verdict {
        self.store.close().await?;
        self.store = self.store.beside(self.suite.open(&self.fresh).await?, "reopened");
        Ok(())
    }

    /// Lets nothing through between the store and its backend.
    pub(crate) async fn cut(&self) -> Verdict {
        Ok(self.suite.cut(&self.fresh).await?)
    }

    /// Lets everything through again.
    pub(crate) async fn heal(&self) -> Verdict {
        Ok(self.suite.heal(&self.fresh).await?)
    }

    // Short words. Each fails the case where the store fails.

    /// Writes without condition and gives the version.
    pub(crate) async fn set(&self, key: impl IntoKey, value: impl Into<Bytes>) -> Result<Option<Version>, Failure> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// Writes with a time to live and gives the version.
    pub(crate) async fn set_ttl(
        &self,
        key: impl IntoKey,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Option<Version>, Failure> {
        self.set_with(key, value, SetOptions::default().with_expiry(Expiry::After(ttl))).await
    }

    /// Writes with options that must not be refused and gives the version.
    pub(crate) async fn set_with(
        &self,
        key: impl IntoKey,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<Option<Version>, Failure> {
        match self.store.set(&key.into_key()?, value.into(), &options).await? {
            SetOutcome::Stored { version, previous: _ } => Ok(version),
            SetOutcome::Refused { current } => {
                Err(Failure::new(format!("{options:?} was refused over {current:?}, and should have been stored")))
            }
        }
    }

    /// Writes without condition and gives the version, on a store that has them.
    pub(crate) async fn set_versioned(&self, key: impl IntoKey, value: impl Into<Bytes>) -> Result<Version, Failure> {
        self.set(key, value).await?.ok_or_else(|| Failure::new("a store with versions gave none for a set"))
    }

    pub(crate) async fn get(&self, key: impl IntoKey) -> Result<Option<Bytes>, Failure> {
        Ok(self.store.get(&key.into_key()?).await?.map(|entry| entry.value))
    }

    /// Writes many at once, in batches, each of which must be stored.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Verdict {
        for batch in items.chunks(Self::BATCH) {
            let outcomes = self.store.set_many(batch).await;
            ensure_eq!(outcomes.len(), batch.len(), "the number of outcomes of a set_many");
            for outcome in outcomes {
                ensure!(outcome?.is_stored(), "a set_many without condition refused a write");
            }
        }
        Ok(())
    }

    /// The live entry, which must be there.
    pub(crate) async fn entry(&self, key: impl IntoKey) -> Result<Entry, Failure> {
        let key = key.into_key()?;
        self.store.get(&key).await?.ok_or_else(|| Failure::new(format!("{key} is absent, and should be there")))
    }

    /// Deletes without condition and tells whether a live entry was removed.
    pub(crate) async fn delete(&self, key: impl IntoKey) -> Result<bool, Failure> {
        Ok(self.store.delete(&key.into_key()?, &DeleteOptions::default()).await?.is_deleted())
    }

    /// Fails unless the key has this value, by `get` and by `contains`.
    pub(crate) async fn expect(&self, key: impl IntoKey, value: impl AsRef<[u8]>) -> Verdict {
        let key = key.into_key()?;
        ensure_eq!(self.get(&key).await?, Some(Bytes::copy_from_slice(value.as_ref())), "the value of {}", named(&key));
        ensure!(
            self.store.contains(&key).await?,
            "`contains` says that {} is absent, and `get` finds it (clause T-1: every operation judges alike)",
            named(&key)
        );
        Ok(())
    }

    /// Fails unless the key is absent, by `get` and by `contains`.
    pub(crate) async fn expect_absent(&self, key: impl IntoKey) -> Verdict {
        let key = key.into_key()?;
        ensure_eq!(self.get(&key).await?, None, "the value of {}, which should be absent", named(&key));
        ensure!(
            !self.store.contains(&key).await?,
            "`contains` says that {} is there, and `get` finds nothing (clause T-1: every operation judges alike)",
            named(&key)
        );
        Ok(())
    }

    /// Fails where the key is absent although it must live until then. A case that came too late to tell passes.
    pub(crate) async fn expect_until(&self, key: impl IntoKey, value: impl AsRef<[u8]>, until: SystemTime) -> Verdict {
        let key = key.into_key()?;
        let found = self.get(&key).await?;
        if found.is_none() && !self.is_before(until) {
            return Ok(());
        }
        ensure_eq!(found, Some(Bytes::copy_from_slice(value.as_ref())), "the value of {key}, whose time is not over");
        Ok(())
    }

    /// Everything that a query covers, over as many pages as it takes.
    pub(crate) async fn list_all(&self, query: ListQuery) -> Result<Vec<ListItem>, Failure> {
        let mut items = Vec::new();
        let mut query = query;
        let mut reached: Option<Key> = None;
        loop {
            let page = self.store.list(&query).await?;
            items.extend(page.items);
            let Some(next) = page.next else { return Ok(items) };
            let gets_on = reached.is_none_or(|reached| if query.reverse { next < reached } else { next > reached });
            ensure!(gets_on, "a list came back to {next}, and would never end");
            reached = Some(next.clone());
            query = query.resume(next);
        }
    }

    /// The keys under a prefix, in order, over as many pages as it takes.
    pub(crate) async fn keys(&self, prefix: impl IntoPrefix) -> Result<Vec<Key>, Failure> {
        let query = ListQuery::new(prefix.into_prefix()?).with_keys_only();
        Ok(self.list_all(query).await?.into_iter().map(|item| item.key).collect())
    }

    /// Removes what the case wrote and fails where something is left.
    pub(crate) async fn clean_up(&self) -> Verdict {
        self.store.clear(&KeyPrefix::ALL).await?;
        ensure_eq!(self.keys(()).await?, Vec::<Key>::new(), "what is left after everything was cleared");
        Ok(())
    }

    /// What the case last did, with results.
    pub(crate) fn last_operations(&self) -> Vec<String> {
        self.store.last_operations()
    }
}

/// A key as its canonical text; as an array where that text would be nothing, or has other signs than letters and digits.
pub(crate) fn named(key: &Key) -> String {
    let text = key.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("{:?}", key.segments().collect::<Vec<_>>())
}

/// A key whose segments are known to be fine.
pub(crate) fn key<const N: usize>(segments: [&str; N]) -> Key {
    match Key::new(segments) {
        Ok(key) => key,
        Err(error) => unreachable!("a key that a case writes out is valid: {error}"),
    }
}
