//! The store itself: the methods of the contract, in its order.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kv_core::{
    Bytes, Capabilities, Clock, Deadline, DeleteOptions, DeleteOutcome, Durability, Entry, Error, Key, KeyPrefix,
    KvStore, List, ListPage, ListQuery, Operation, Result, SetOptions, SetOutcome, StoreInfo, Survives, SystemClock,
    Version,
};

use crate::entries::{Entries, Held};
use crate::journal::Journal;

/// What this store can do. A record is with the operating system before a write is acknowledged, and not yet on the medium.
pub const CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_durability(Durability::surviving(Survives::Process));

/// How often expired entries are looked for, and how many go while others wait.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_BATCH: usize = 500;

/// A store in one plain file, which one process opens. Clones are one store.
#[derive(Debug, Clone)]
pub struct JournalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    info: StoreInfo,
    clock: Arc<dyn Clock>,
    /// `None` once it was closed.
    state: Mutex<Option<State>>,
}

struct State {
    journal: Journal,
    entries: Entries,
}

/// Shows nothing that is stored (clause E-3).
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl JournalStore {
    /// Opens the file, or creates it. Needs a tokio runtime for what is done in the background.
    ///
    /// # Errors
    /// `Unavailable` where another store has it open, `Corrupt` for a file that is damaged or another program's.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::open_with_clock(path, Arc::new(SystemClock)).await
    }

    /// The same, with the time from this clock, so that tests move it.
    ///
    /// # Errors
    /// As [`JournalStore::open`].
    pub async fn open_with_clock(path: impl AsRef<Path> + Send, clock: Arc<dyn Clock>) -> Result<Self> {
        let opened = Journal::open(path.as_ref());
        let (journal, entries) =
            opened.map_err(|error| error.with_operation(Operation::Open).with_backend("journal"))?;
        let info = StoreInfo::new("journal", CAPABILITIES);
        let inner = Arc::new(Inner { info, clock, state: Mutex::new(Some(State { journal, entries })) });
        tokio::spawn(sweep_again_and_again(Arc::downgrade(&inner), Arc::clone(&inner.clock)));
        Ok(Self { inner })
    }
}

/// Ends with the last clone of the store, because it holds none itself.
async fn sweep_again_and_again(store: Weak<Inner>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(SWEEP_EVERY).await;
        match store.upgrade().map(|store| store.sweep_batch()) {
            Some(Ok(_)) => {}
            // Closed, or dropped. A file that cannot be written now may be written next time.
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(_)) | None => return,
        }
    }
}

impl Inner {
    /// The lock is held for one short step and never over an `.await`: so a dropped future leaves nothing half done (clause
    /// A-1), and a condition is judged and applied as one step (clause S-2).
    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one step on the open store, and names the operation where it fails.
    fn step<T>(&self, operation: Operation, step: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let result = match state.as_mut() {
            Some(state) => step(state),
            None => Err(Error::closed()),
        };
        result.map_err(|error| error.with_operation(operation).with_backend(self.info.name.clone()))
    }

    /// Removes some of what has expired, by deadline, and tells how many there were.
    fn sweep_batch(&self) -> Result<usize> {
        self.step(Operation::Sweep, |state| {
            for swept in 0..SWEEP_BATCH {
                let Some(key) = state.entries.expired(self.clock.now()) else { return Ok(swept) };
                state.journal.append(&key, None)?;
                state.entries.remove(&key);
            }
            Ok(SWEEP_BATCH)
        })
    }
}

#[async_trait]
impl KvStore for JournalStore {
    fn info(&self) -> &StoreInfo {
        &self.inner.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self
            .inner
            .step(Operation::Get, |state| Ok(state.entries.live(key, self.inner.clock.now()).map(Held::entry)));
        found.map_err(|error| error.with_key(key))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.step(Operation::Set, |state| {
            options.check(&self.inner.info.capabilities)?;
            self.inner.info.limits.check_value(value.len())?;
            let now = self.inner.clock.now();
            let current = state.entries.live(key, now);
            let entry = current.map(Held::entry);
            if !options.when.holds(entry.as_ref()) {
                return Ok(SetOutcome::Refused { current: entry });
            }
            let deadline = Deadline::resolve(options.expiry, now, current.map(|held| held.deadline));
            let version = Version::random();
            let held = Held { value, version, deadline };
            state.journal.append(key, Some(&held))?;
            state.entries.insert(key.clone(), held);
            let previous = entry.filter(|_| options.return_previous);
            Ok(SetOutcome::Stored { version: Some(version), previous })
        });
        outcome.map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.step(Operation::Delete, |state| {
            options.check(&self.inner.info.capabilities)?;
            let current = state.entries.live(key, self.inner.clock.now()).map(Held::entry);
            if !options.when.holds(current.as_ref()) {
                return Ok(DeleteOutcome::Refused { current });
            }
            let Some(entry) = current else { return Ok(DeleteOutcome::Missing) };
            state.journal.append(key, None)?;
            state.entries.remove(key);
            Ok(DeleteOutcome::Deleted { previous: options.return_previous.then_some(entry) })
        });
        outcome.map_err(|error| error.with_key(key))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.inner.step(Operation::List, |state| {
            query.check(&self.inner.info.capabilities)?;
            Ok(state.entries.page(query, self.inner.clock.now()))
        })
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut cleared = 0;
        let all = ListQuery::new(prefix.clone()).with_keys_only();
        // Page by page, so that nobody waits for all of them.
        loop {
            let is_through = self.inner.step(Operation::Clear, |state| {
                let page = state.entries.page(&all.clone().with_limit(SWEEP_BATCH), self.inner.clock.now());
                for item in &page.items {
                    state.journal.append(&item.key, None)?;
                    state.entries.remove(&item.key);
                    cleared += 1;
                }
                Ok(page.next.is_none())
            })?;
            if is_through {
                return Ok(cleared);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn ping(&self) -> Result<()> {
        self.inner.step(Operation::Ping, |_| Ok(()))
    }

    async fn flush(&self) -> Result<()> {
        self.inner.step(Operation::Flush, |state| state.journal.sync())
    }

    async fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        loop {
            let batch = self.inner.sweep_batch()?;
            swept += batch as u64;
            if batch < SWEEP_BATCH {
                return Ok(swept);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn close(&self) -> Result<()> {
        // The lock on the file goes with it.
        match self.inner.state().take() {
            Some(state) => state.journal.sync(),
            None => Ok(()),
        }
    }
}
