//! The store: the methods of `KvStore`, in their order.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kv_core::{
    Bytes, Capabilities, Clock, Deadline, DeleteOptions, DeleteOutcome, Durability, Entry, Error, Key, KeyPrefix,
    KvStore, List, ListPage, ListQuery, Operation, Result, SetOptions, SetOutcome, StoreInfo, Survives, SystemClock,
    Version,
};

use crate::entries::{Entries, StoredEntry};
use crate::journal::Journal;

/// The capabilities of this store. When a write is acknowledged, the record is in the page cache of the operating
/// system and not yet on the disk.
pub const CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_durability(Durability::surviving(Survives::Process));

/// The time between two sweeps in the background.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of entries that a sweep or `clear` removes while it holds the lock once.
const BATCH: usize = 500;

/// A store in one plain file. Only one store may have the file open at a time. Clones share one store. `close` on any
/// clone closes the store for all clones. Dropping the last clone closes the file without a `flush`.
#[derive(Debug, Clone)]
pub struct JournalStore {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    info: StoreInfo,
    clock: Arc<dyn Clock>,
    /// `None` once the store is closed.
    file: Mutex<Option<OpenFile>>,
}

struct OpenFile {
    journal: Journal,
    entries: Entries,
}

/// Shows no keys and no values (clause E-3).
impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").finish_non_exhaustive()
    }
}

impl JournalStore {
    /// Opens the file, or creates it. Call this function on a tokio runtime, because the runtime runs the sweeper.
    ///
    /// # Errors
    /// `Unavailable` if another store has the file open, `Corrupt` if the file is damaged or belongs to another
    /// program.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::open_with_clock(path, Arc::new(SystemClock)).await
    }

    /// Opens the file as [`JournalStore::open`] does, with a clock, for tests that move the time.
    ///
    /// # Errors
    /// The errors of [`JournalStore::open`].
    pub async fn open_with_clock(path: impl AsRef<Path> + Send, clock: Arc<dyn Clock>) -> Result<Self> {
        let opened = Journal::open(path.as_ref());
        let (journal, entries) =
            opened.map_err(|error| error.with_operation(Operation::Open).with_backend("journal"))?;
        let info = StoreInfo::new("journal", CAPABILITIES);
        let state = Arc::new(State { info, clock, file: Mutex::new(Some(OpenFile { journal, entries })) });
        tokio::spawn(run_sweeper(Arc::downgrade(&state), Arc::clone(&state.clock)));
        Ok(Self { state })
    }
}

/// Sweeps in the background. Holds only a weak reference to the state, so that the sweeper ends after the last clone
/// was dropped.
async fn run_sweeper(state: Weak<State>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(SWEEP_INTERVAL).await;
        match state.upgrade().map(|state| state.sweep_batch()) {
            Some(Ok(_)) => {}
            // The next sweep may succeed.
            Some(Err(error)) if error.is_retryable() => {}
            // The store is closed or dropped, or a retry cannot help.
            Some(Err(_)) | None => return,
        }
    }
}

impl State {
    /// Locks the file. The lock is held for one short step and never across an `.await`. Therefore a dropped future
    /// leaves no step half done (clause A-1), and a conditional write checks its condition and applies its change as
    /// one step (clause S-2).
    fn lock(&self) -> MutexGuard<'_, Option<OpenFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one step on the open file. Adds the backend and the operation to errors.
    fn step<T>(&self, operation: Operation, step: impl FnOnce(&mut OpenFile) -> Result<T>) -> Result<T> {
        let mut file = self.lock();
        let result = match file.as_mut() {
            Some(file) => step(file),
            None => Err(Error::closed()),
        };
        result.map_err(|error| error.with_operation(operation).with_backend(self.info.name.clone()))
    }

    /// Removes up to `BATCH` expired entries and returns their number.
    fn sweep_batch(&self) -> Result<usize> {
        self.step(Operation::Sweep, |file| {
            for swept in 0..BATCH {
                let Some(key) = file.entries.next_due(self.clock.now()) else { return Ok(swept) };
                file.journal.append(&key, None)?;
                file.entries.remove(&key);
            }
            Ok(BATCH)
        })
    }
}

#[async_trait]
impl KvStore for JournalStore {
    fn info(&self) -> &StoreInfo {
        &self.state.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self
            .state
            .step(Operation::Get, |file| Ok(file.entries.live(key, self.state.clock.now()).map(StoredEntry::entry)));
        found.map_err(|error| error.with_key(key))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.state.step(Operation::Set, |file| {
            options.check(&self.state.info.capabilities)?;
            self.state.info.limits.check_value(value.len())?;
            let now = self.state.clock.now();
            let current = file.entries.live(key, now);
            let entry = current.map(StoredEntry::entry);
            if !options.when.holds(entry.as_ref()) {
                return Ok(SetOutcome::Refused { current: entry });
            }
            let deadline = Deadline::resolve(options.expiry, now, current.map(|stored| stored.deadline));
            let version = Version::random();
            let stored = StoredEntry { value, version, deadline };
            file.journal.append(key, Some(&stored))?;
            file.entries.insert(key.clone(), stored);
            let previous = entry.filter(|_| options.return_previous);
            Ok(SetOutcome::Stored { version: Some(version), previous })
        });
        outcome.map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.state.step(Operation::Delete, |file| {
            options.check(&self.state.info.capabilities)?;
            let current = file.entries.live(key, self.state.clock.now()).map(StoredEntry::entry);
            if !options.when.holds(current.as_ref()) {
                return Ok(DeleteOutcome::Refused { current });
            }
            let Some(entry) = current else { return Ok(DeleteOutcome::Missing) };
            file.journal.append(key, None)?;
            file.entries.remove(key);
            Ok(DeleteOutcome::Deleted { previous: options.return_previous.then_some(entry) })
        });
        outcome.map_err(|error| error.with_key(key))
    }

    async fn time(&self) -> Result<SystemTime> {
        self.state.step(Operation::Time, |_| Ok(self.state.clock.now()))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.state.step(Operation::List, |file| {
            query.check(&self.state.info.capabilities)?;
            Ok(file.entries.page(query, self.state.clock.now()))
        })
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut cleared = 0;
        let all = ListQuery::new(prefix.clone()).with_keys_only();
        // The lock is taken once per page, so that other callers do not wait until the whole prefix is cleared.
        loop {
            let is_complete = self.state.step(Operation::Clear, |file| {
                let page = file.entries.page(&all.clone().with_limit(BATCH), self.state.clock.now());
                for item in &page.items {
                    file.journal.append(&item.key, None)?;
                    file.entries.remove(&item.key);
                    cleared += 1;
                }
                Ok(page.next.is_none())
            })?;
            if is_complete {
                return Ok(cleared);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn ping(&self) -> Result<()> {
        self.state.step(Operation::Ping, |_| Ok(()))
    }

    async fn flush(&self) -> Result<()> {
        self.state.step(Operation::Flush, |file| file.journal.sync())
    }

    async fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        loop {
            let batch = self.state.sweep_batch()?;
            swept += batch as u64;
            if batch < BATCH {
                return Ok(swept);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn close(&self) -> Result<()> {
        // Dropping the file also releases its lock.
        match self.state.lock().take() {
            Some(file) => file.journal.sync(),
            None => Ok(()),
        }
    }
}
