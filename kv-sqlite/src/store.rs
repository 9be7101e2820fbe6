//! The handle and the contract.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capabilities, Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Durability, Entry, Error, IncrementOptions, Key,
    KeyPrefix, KvStore, List, ListPage, ListQuery, Message, MessageStream, NewExpiry, Operation, Reach, Result,
    SetItem, SetOptions, SetOutcome, StoreInfo, Survives, TakeEntry, Transaction, Transactions, Version, WatchQuery,
    WatchStream,
};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::board::Letterbox;
use crate::builder::SqliteBuilder;
use crate::keeper::Keeper;
use crate::list::Liveness;
use crate::queue::Queue;
use crate::reader::Readers;
use crate::relied::Relied;
use crate::statement::Statements;
use crate::verify::{self, Verification};
use crate::watch::{Register, Watchers};
use crate::write::{Commit, Delete, Increment, Set, Touch};
use crate::{error, list, sweep};

/// What a store in memory can do.
pub const MEMORY_CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_watch(Reach::Process)
    .with_watch_expiry()
    .with_messages(Reach::Process);

/// What a store in a file can do, with [`SyncMode::EveryCommit`](crate::SyncMode::EveryCommit).
pub const CAPABILITIES: Capabilities =
    MEMORY_CAPABILITIES.with_watch(Reach::Shared).with_shared().with_durability(Durability::surviving(Survives::Power));

/// A store in an SQLite database: one table of a file, or of a database in memory.
///
/// A clone is the same handle. The store ends with its last clone, or for all of them when one is closed. It has connections
/// and threads of its own: a connection or a transaction of the caller is never touched.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) info: StoreInfo,
    pub(crate) queue: Queue,
    pub(crate) readers: Arc<Readers>,
    pub(crate) sql: Arc<Statements>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watchers: Watchers,
    pub(crate) letters: Arc<Letterbox>,
    pub(crate) relied: Arc<Relied>,
    pub(crate) is_closed: Arc<AtomicBool>,
    pub(crate) ended: watch::Receiver<bool>,
    pub(crate) keeper: Arc<Keeper>,
}

impl SqliteStore {
    /// The name in reports and errors.
    pub(crate) const NAME: &'static str = "sqlite";

    /// Builds a store: its place, table, clock and settings.
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder::new()
    }

    /// Opens the store in a file, with the settings of [`SqliteConfig::default`](crate::SqliteConfig).
    ///
    /// # Errors
    /// As [`SqliteBuilder::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().path(path.as_ref()).open().await
    }

    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Checks the whole file: its structure, and every entry of this table against its checksum. It changes nothing and runs
    /// beside other calls, as long as reading the file takes.
    ///
    /// # Errors
    /// `Unavailable` where the file cannot be read at all, and `Closed`. Damage is no error but what is reported.
    pub async fn verify(&self) -> Result<Verification> {
        self.salvage(Box::new(|_, _| Ok(()))).await
    }

    /// As [`SqliteStore::verify`], and gives each sound entry to `take`, those that have expired and are not swept yet
    /// included.
    ///
    /// # Errors
    /// As [`SqliteStore::verify`], and the first error that `take` gives.
    pub async fn salvage(&self, take: TakeEntry) -> Result<Verification> {
        let readers = Arc::clone(self.readers()?);
        let sql = Arc::clone(&self.shared.sql);
        let checked = self
            .shared
            .keeper
            .timer()
            .on_thread(move || readers.with(|connection| verify::verify(connection, &sql, take)));
        checked.await.unwrap_or_else(|| Err(Error::unavailable("the check could not be run")))
    }

    fn check_open(&self) -> Result<()> {
        if self.shared.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    fn readers(&self) -> Result<&Arc<Readers>> {
        self.check_open()?;
        Ok(&self.shared.readers)
    }

    fn queue(&self) -> Result<&Queue> {
        self.check_open()?;
        Ok(&self.shared.queue)
    }

    /// Reads on this thread. It waits only where it has found an entry expired that a batch in flight relies on.
    async fn read<T: Send>(
        &self,
        read: impl Fn(&Connection, &Statements, &mut Liveness<'_>) -> Result<T> + Send + Sync,
    ) -> Result<T> {
        let Shared { sql, relied, clock, queue, .. } = &*self.shared;
        loop {
            let mark = relied.mark();
            let mut liveness = Liveness::new(&**clock);
            let found = self.readers()?.with(|connection| read(connection, sql, &mut liveness))?;
            if relied.is_settled(mark, liveness.expired()) {
                return Ok(found);
            }
            drop(liveness);
            if queue.limit(relied.settled(mark)).await.is_none() {
                return Err(Error::unavailable("the writer did not settle what has expired"));
            }
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.shared.info.capabilities
    }

    /// The write of a set, refused here where it is refused without looking.
    fn to_set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<Set> {
        options.check(self.capabilities())?;
        self.shared.info.limits.check_value(value.len())?;
        Ok(Set { key: key.clone(), value, options: options.clone(), version: Version::random() })
    }
}

/// Says where an error came from.
fn told<T>(operation: Operation, key: Option<&Key>, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let error = error.with_operation(operation).with_backend(SqliteStore::NAME);
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    })
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for SqliteStore {
    fn info(&self) -> &StoreInfo {
        &self.shared.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let entry = self.read(|connection, sql, liveness| list::get(connection, sql, key, liveness));
        told(Operation::Get, Some(key), entry.await)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let set = async { self.queue()?.call(self.to_set(key, value, options)?).await };
        told(Operation::Set, Some(key), set.await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let delete = async {
            options.check(self.capabilities())?;
            self.queue()?.call(Delete { key: key.clone(), options: options.clone() }).await
        };
        told(Operation::Delete, Some(key), delete.await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let is_there = self.read(|connection, sql, liveness| list::contains(connection, sql, key, liveness));
        told(Operation::Contains, Some(key), is_there.await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let answers = self.read(|connection, sql, liveness| list::get_many(connection, sql, keys, liveness));
        if let Ok(answers) = answers.await {
            return keys.iter().zip(answers).map(|(key, answer)| told(Operation::GetMany, Some(key), answer)).collect();
        }
        // Where there is no common answer, each key has its own.
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let entry = self.read(|connection, sql, liveness| list::get(connection, sql, key, liveness));
            answers.push(told(Operation::GetMany, Some(key), entry.await));
        }
        answers
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut answers = Vec::with_capacity(items.len());
        for SetItem { key, value, options, .. } in items {
            let submitted = async { self.queue()?.submit(self.to_set(key, value.clone(), options)?).await };
            answers.push((key, submitted.await));
        }
        let mut outcomes = Vec::with_capacity(items.len());
        for (key, answer) in answers {
            let outcome = async { answer?.wait().await };
            outcomes.push(told(Operation::SetMany, Some(key), outcome.await));
        }
        outcomes
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let delete = Delete { key: key.clone(), options: DeleteOptions::default() };
            let submitted = async { self.queue()?.submit(delete).await };
            answers.push((key, submitted.await));
        }
        let mut outcomes = Vec::with_capacity(keys.len());
        for (key, answer) in answers {
            let outcome = async { answer?.wait().await };
            outcomes.push(told(Operation::DeleteMany, Some(key), outcome.await));
        }
        outcomes
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let page = async {
            query.check(self.capabilities())?;
            self.read(|connection, sql, liveness| list::page(connection, sql, query, liveness)).await
        };
        told(Operation::List, None, page.await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let clear = async { sweep::clear(self.queue()?, prefix).await };
        told(Operation::Clear, None, clear.await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let touch = async { self.queue()?.call(Touch { key: key.clone(), expiry }).await };
        told(Operation::Touch, Some(key), touch.await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let increment = async {
            options.check(self.capabilities())?;
            let (key, version) = (key.clone(), Version::random());
            self.queue()?.call(Increment { key, by, expiry: options.expiry, version }).await
        };
        told(Operation::Increment, Some(key), increment.await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let commit = async {
            transaction.validate(self.capabilities(), &self.shared.info.limits)?;
            self.queue()?.call(Commit::new(transaction.clone())).await
        };
        told(Operation::Commit, None, commit.await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let watch = async {
            query.check(self.capabilities())?;
            let queue = self.queue()?;
            let inbox = self.shared.watchers.hub.subscribe(query.target.prefix());
            queue.call(Register(self.shared.watchers.clone())).await?;
            Ok(kv_core::follow(self.clone(), query.clone(), inbox))
        };
        told(Operation::Watch, None, watch.await)
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let published = self.check_open().and_then(|()| {
            self.shared.info.limits.check_message(message.len())?;
            self.shared.letters.publish(&Message { channel: channel.clone(), payload: message });
            Ok(())
        });
        told(Operation::Publish, Some(channel), published)
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        told(Operation::Subscribe, None, self.check_open())?;
        Ok(self.shared.letters.subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        // Reads the file's first page, which a prepared statement alone would not do.
        let pong = self
            .read(|connection, _, _| connection.query_row("PRAGMA user_version", [], |_| Ok(())).map_err(error::read));
        told(Operation::Ping, None, pong.await)
    }

    async fn flush(&self) -> Result<()> {
        let flush = async { self.queue()?.flush().await };
        told(Operation::Flush, None, flush.await)
    }

    async fn sweep(&self) -> Result<u64> {
        let sweep = async { sweep::sweep(self.queue()?).await };
        told(Operation::Sweep, None, sweep.await)
    }

    async fn close(&self) -> Result<()> {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.queue.close();
        let mut ended = self.shared.ended.clone();
        // A writer that is gone has ended too.
        let waited = self.shared.queue.limit(async { ended.wait_for(|ended| *ended).await.map(|_| ()) }).await;
        let closed = match waited {
            Some(_) => Ok(()),
            None => Err(Error::unavailable("the writer did not end in time; what waits is still written")),
        };
        told(Operation::Close, None, closed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Their streams do not keep the store, and would wait for ever.
        self.letters.close();
    }
}
