//! The context of a case: its own store, the time, and shorthands for common steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{
    Capabilities, Capability, Clock, DeleteOptions, Entry, Expiry, IntoKey, IntoPrefix, Key, KeyPrefix, KvStore,
    Limits, ListItem, ListQuery, Namespace, Namespaced, SetItem, SetOptions, SetOutcome, SystemClock, Version,
};

use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::fresh::Fresh;
use crate::mortal::MortalStore;
use crate::recorder::Recorder;
use crate::settled::Writes;
use crate::suite::Suite;

/// The store of a case, with its suite and clock.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    suite: Suite,
    fresh: Fresh,
    store: Recorder,
    /// True if the second handle is in another process.
    second_in_other_process: bool,
    writes: Writes,
}

impl Context {
    /// The tolerance around deadlines if the case does not set the clock. It is larger than the tolerance of clause
    /// T-2, so that no case fails because the machine is busy.
    const TOLERANCE: Duration = Duration::from_millis(50);
    /// The maximum number of writes in one `set_many`.
    const BATCH: usize = 5_000;

    pub(crate) fn new(suite: Suite, fresh: Fresh, store: Arc<dyn KvStore>) -> Self {
        let writes = Writes::default();
        let store = Recorder::new(writes.settled(store));
        Self { suite, fresh, store, second_in_other_process: false, writes }
    }

    /// The store, which records its last operations for failure texts. Clones share one store.
    pub(crate) fn store(&self) -> &Recorder {
        &self.store
    }

    /// The capabilities that the store declared before it was opened.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.suite.capabilities
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.suite.capabilities.has(capability)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.store.info().limits
    }

    /// The seed of the random choices of the case.
    pub(crate) fn seed(&self) -> u64 {
        self.suite.seed
    }

    /// The number of random scripts that a case runs.
    pub(crate) fn scripts(&self) -> usize {
        self.suite.scripts
    }

    /// The time of the store's clock if the case sets that clock, else the system time.
    pub(crate) fn now(&self) -> SystemTime {
        if self.suite.hooks.clock { self.fresh.clock().now() } else { SystemClock.now() }
    }

    /// True if the case sets the store's clock. Then time passes only when the case advances the clock.
    pub(crate) fn moves_clock(&self) -> bool {
        self.suite.hooks.clock
    }

    /// True if the store is two handles that alternate call by call.
    pub(crate) fn alternates(&self) -> bool {
        self.suite.alternates
    }

    /// Advances the store's clock, or sleeps if the case does not set the clock.
    pub(crate) async fn advance(&self, duration: Duration) {
        if self.suite.hooks.clock {
            self.fresh.clock().advance(duration);
        } else {
            SystemClock.sleep(duration).await;
        }
    }

    /// Advances the time until an entry that was just written with this time to live has expired.
    pub(crate) async fn advance_past(&self, ttl: Duration) {
        self.advance(if self.moves_clock() { ttl } else { ttl + Self::TOLERANCE }).await;
    }

    /// True if this moment is certainly in the future for the store.
    pub(crate) fn is_before(&self, moment: SystemTime) -> bool {
        self.now() + if self.moves_clock() { Duration::ZERO } else { Self::TOLERANCE } < moment
    }

    /// Sleeps in real time, for work that does not follow the store's clock.
    pub(crate) async fn wait(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }

    /// A copy of this context. [`Context::second_handle`] of the copy opens the handle in another process.
    pub(crate) fn across_processes(mut self) -> Self {
        self.second_in_other_process = true;
        self
    }

    /// Opens a second handle to the same store. If reads are bounded, each read of the two handles first waits until it
    /// must show the writes of the other handle.
    pub(crate) async fn second_handle(&self) -> Result<Recorder, Failure> {
        let (opened, label) = if self.second_in_other_process {
            (self.suite.open_in_other_process(&self.fresh).await?, "other process")
        } else {
            (self.suite.open(&self.fresh).await?, "second handle")
        };
        Ok(self.store.sibling(self.writes.settled(opened), label))
    }

    /// Opens two more handles to the same store. Their reads do not wait, also if reads are bounded.
    pub(crate) async fn unsettled_handles(&self) -> Result<[Recorder; 2], Failure> {
        let [one, two] = [self.suite.open(&self.fresh).await?, self.suite.open(&self.fresh).await?];
        Ok([self.store.sibling(one, "handle one"), self.store.sibling(two, "handle two")])
    }

    /// Opens another store than the case's own, on the same backend. The case must clear it, because the suite clears
    /// only the case's own store.
    pub(crate) async fn other_store(&self) -> Result<Recorder, Failure> {
        Ok(self.store.sibling(self.suite.open(&self.other_fresh()).await?, "other store"))
    }

    fn other_fresh(&self) -> Fresh {
        Fresh::new(self.suite.name(), self.fresh.name(), self.suite.seed)
    }

    /// A copy of this context for a namespace of the store. Only the original context may close or reopen the store,
    /// because `reopen` opens the store without the namespace.
    pub(crate) fn in_namespace(&self, namespace: &Namespace) -> Self {
        let store = Namespaced::new(Arc::clone(self.store.inner()), namespace.clone());
        Self { store: self.store.sibling(Arc::new(store), "in the namespace"), ..self.clone() }
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopen(&mut self) -> Verdict {
        self.store.close().await?;
        self.store = self.store.sibling(self.suite.open(&self.fresh).await?, "reopened");
        Ok(())
    }

    /// Closes the store, and opens it again with a clock that shows an earlier time.
    pub(crate) async fn reopen_earlier(&mut self, by: Duration) -> Verdict {
        self.fresh = self.fresh.earlier(by);
        self.reopen().await
    }

    /// Opens the store in a child process that the case can kill, while the store is open here.
    pub(crate) async fn open_beside_in_child(&self) -> Result<MortalStore, Failure> {
        let child = MortalStore::open(self.suite.name(), &self.fresh).await?;
        Ok(child.map(|store| self.store.sibling(store, "in the child")))
    }

    /// Closes the store and opens it in a child process that the case can kill. [`Context::reopen`] opens it here again.
    pub(crate) async fn open_in_child(&self) -> Result<MortalStore, Failure> {
        self.store.close().await?;
        self.open_beside_in_child().await
    }

    /// Starts to open the store in a child process and kills the child after this time, perhaps while it opens.
    pub(crate) async fn kill_while_opening(&self, after: Duration) -> Verdict {
        self.store.close().await?;
        Ok(MortalStore::kill_while_opening(self.suite.name(), &self.fresh, after).await?)
    }

    /// Closes the store, damages the entry of a key, and opens the store again.
    pub(crate) async fn damage(&mut self, key: &Key) -> Verdict {
        self.store.close().await?;
        self.suite.damage(&self.fresh, key).await?;
        self.reopen().await
    }

    /// The folders of the case's stores, which exist only if the harness uses them.
    pub(crate) fn folders(&self) -> [PathBuf; 2] {
        [self.fresh.folder_path(), self.other_fresh().folder_path()]
    }

    /// Cuts the link between the store and its backend.
    pub(crate) async fn cut(&self) -> Verdict {
        Ok(self.suite.cut(&self.fresh).await?)
    }

    /// Heals the link between the store and its backend.
    pub(crate) async fn heal(&self) -> Verdict {
        Ok(self.suite.heal(&self.fresh).await?)
    }

    /// Fills the disk of the store.
    pub(crate) async fn fill_disk(&self) -> Verdict {
        Ok(self.suite.fill_disk(&self.fresh).await?)
    }

    /// Makes room on the disk of the store.
    pub(crate) async fn free_disk(&self) -> Verdict {
        Ok(self.suite.free_disk(&self.fresh).await?)
    }

    // Shorthands. An error of the store fails the case.

    /// Sets without a condition and returns the version.
    pub(crate) async fn set(&self, key: impl IntoKey, value: impl Into<Bytes>) -> Result<Option<Version>, Failure> {
        self.set_with(key, value, SetOptions::default()).await
    }

    /// Sets with a time to live and returns the version.
    pub(crate) async fn set_ttl(
        &self,
        key: impl IntoKey,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<Option<Version>, Failure> {
        self.set_with(key, value, SetOptions::default().with_expiry(Expiry::After(ttl))).await
    }

    /// Sets with options, fails if the set is refused, and returns the version.
    pub(crate) async fn set_with(
        &self,
        key: impl IntoKey,
        value: impl Into<Bytes>,
        options: SetOptions,
    ) -> Result<Option<Version>, Failure> {
        match self.store.set(&key.into_key()?, value.into(), &options).await? {
            SetOutcome::Stored { version, previous: _ } => Ok(version),
            SetOutcome::Refused { current } => Err(Failure::new(format!(
                "expected `set` with {options:?} to be stored, but it was refused; current entry: {current:?}"
            ))),
        }
    }

    /// Sets without a condition and returns the version; fails if `set` returned none.
    pub(crate) async fn set_versioned(&self, key: impl IntoKey, value: impl Into<Bytes>) -> Result<Version, Failure> {
        self.set(key, value).await?.ok_or_else(|| Failure::new("the store declares versions, but `set` returned none"))
    }

    pub(crate) async fn get(&self, key: impl IntoKey) -> Result<Option<Bytes>, Failure> {
        Ok(self.store.get(&key.into_key()?).await?.map(|entry| entry.value))
    }

    /// Sets many items in batches and fails unless each is stored.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Verdict {
        for batch in items.chunks(Self::BATCH) {
            let outcomes = self.store.set_many(batch).await;
            ensure_eq!(outcomes.len(), batch.len(), "the number of outcomes that `set_many` returned");
            for outcome in outcomes {
                ensure!(outcome?.is_stored(), "`set_many` refused a write that has no condition");
            }
        }
        Ok(())
    }

    /// Returns the live entry and fails if the key is absent.
    pub(crate) async fn entry(&self, key: impl IntoKey) -> Result<Entry, Failure> {
        let key = key.into_key()?;
        self.store
            .get(&key)
            .await?
            .ok_or_else(|| Failure::new(format!("expected `get` of {key} to return an entry, but it returned none")))
    }

    /// Deletes without a condition and returns true if a live entry was removed.
    pub(crate) async fn delete(&self, key: impl IntoKey) -> Result<bool, Failure> {
        Ok(self.store.delete(&key.into_key()?, &DeleteOptions::default()).await?.is_deleted())
    }

    /// Fails unless `get` returns this value and `contains` returns true.
    pub(crate) async fn expect(&self, key: impl IntoKey, value: impl AsRef<[u8]>) -> Verdict {
        let key = key.into_key()?;
        ensure_eq!(
            self.get(&key).await?,
            Some(Bytes::copy_from_slice(value.as_ref())),
            "the value that `get` returned for {}",
            display_key(&key)
        );
        ensure!(
            self.store.contains(&key).await?,
            "`contains` returned false for {}, but `get` found an entry (clause T-1: all operations agree)",
            display_key(&key)
        );
        Ok(())
    }

    /// Fails unless `get` finds nothing and `contains` returns false.
    pub(crate) async fn expect_absent(&self, key: impl IntoKey) -> Verdict {
        let key = key.into_key()?;
        ensure_eq!(
            self.get(&key).await?,
            None,
            "the value that `get` returned for the absent key {}",
            display_key(&key)
        );
        ensure!(
            !self.store.contains(&key).await?,
            "`contains` returned true for {}, but `get` found nothing (clause T-1: all operations agree)",
            display_key(&key)
        );
        Ok(())
    }

    /// Fails unless `get` returns this value. Passes if the key is absent and `until` may have passed, because the case
    /// ran slowly.
    pub(crate) async fn expect_until(&self, key: impl IntoKey, value: impl AsRef<[u8]>, until: SystemTime) -> Verdict {
        let key = key.into_key()?;
        let found = self.get(&key).await?;
        if found.is_none() && !self.is_before(until) {
            return Ok(());
        }
        ensure_eq!(
            found,
            Some(Bytes::copy_from_slice(value.as_ref())),
            "the value that `get` returned for {key} before its deadline"
        );
        Ok(())
    }

    /// Lists all items of a query, page by page.
    pub(crate) async fn list_all(&self, query: ListQuery) -> Result<Vec<ListItem>, Failure> {
        let mut items = Vec::new();
        let mut query = query;
        let mut reached: Option<Key> = None;
        loop {
            let page = self.store.list(&query).await?;
            items.extend(page.items);
            let Some(next) = page.next else { return Ok(items) };
            let advances = reached.is_none_or(|reached| if query.reverse { next < reached } else { next > reached });
            ensure!(
                advances,
                "`list` returned the next key {next} again or in the wrong order, so the listing would never end"
            );
            reached = Some(next.clone());
            query = query.resume(next);
        }
    }

    /// Lists the keys under a prefix in order, page by page.
    pub(crate) async fn keys(&self, prefix: impl IntoPrefix) -> Result<Vec<Key>, Failure> {
        let query = ListQuery::new(prefix.into_prefix()?).with_keys_only();
        Ok(self.list_all(query).await?.into_iter().map(|item| item.key).collect())
    }

    /// Clears the store and fails if `list` still finds a key.
    pub(crate) async fn clean_up(&self) -> Verdict {
        self.store.clear(&KeyPrefix::ALL).await?;
        ensure_eq!(
            self.keys(()).await?,
            Vec::<Key>::new(),
            "the keys that `list` returned after `clear` of everything"
        );
        Ok(())
    }

    /// The last operations of the case, with their results.
    pub(crate) fn last_operations(&self) -> Vec<String> {
        self.store.last_operations()
    }
}

/// The canonical text of a key, or its segments as an array if the text is empty or has unusual characters.
pub(crate) fn display_key(key: &Key) -> String {
    let text = key.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.#".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("{:?}", key.segments().collect::<Vec<_>>())
}

/// Builds a key from literal segments, which must be valid.
pub(crate) fn key<const N: usize>(segments: [&str; N]) -> Key {
    match Key::new(segments) {
        Ok(key) => key,
        Err(error) => unreachable!("the literal keys of cases are valid: {error}"),
    }
}
