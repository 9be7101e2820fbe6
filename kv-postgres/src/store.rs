//! The handle and the contract.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capabilities, Capability, CommitOutcome, DeleteOptions, DeleteOutcome, Durability, Entry, Error, Expiry,
    IncrementOptions, Key, KeyPrefix, KvStore, List, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Result,
    SetItem, SetOptions, SetOutcome, StoreInfo, Survives, Transaction, Transactions, Version, WatchQuery, WatchStream,
    When,
};

use crate::batch::{Delete, Get, Set};
use crate::builder::PostgresBuilder;
use crate::codec::Lifetime;
use crate::error::Effect;
use crate::listen::Listener;
use crate::state::Core;
use crate::statement::Sql;
use crate::transaction::Commit;
use crate::write::{self, SetAlone};
use crate::{lane, list, many, message, open, sweep};

/// What a store can do that does not hear the server's notifications: behind a pooler, and without a `listen_url`.
pub const POOLED_CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Power));

/// What a store can do, on a server with its default durability.
pub const CAPABILITIES: Capabilities = open::hearing(POOLED_CAPABILITIES);

/// A store in a table of a PostgreSQL database.
///
/// A clone is the same handle. The store ends with its last clone, or for all of them when one is closed. Its work is done on the
/// tokio runtime that opened it.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// What ends with the last handle.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.home.stop();
        // Their streams do not keep the store, and would wait for ever.
        self.core.changes.close();
        self.core.letters.close();
    }
}

impl PostgresStore {
    /// The name in reports and errors.
    pub(crate) const NAME: &'static str = "postgres";

    /// Builds a store: its server, table and settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }

    /// Opens the store of a URL such as `postgres://user:password@host/database?table=kv`.
    ///
    /// # Errors
    /// As [`PostgresBuilder::open`].
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder().url(url)?.open().await
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        Self { shared: Arc::new(Shared { core }) }
    }

    fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }

    fn capabilities(&self) -> &Capabilities {
        &self.core().info.capabilities
    }

    /// Does the work to its end, on the store's runtime, and says where an error came from.
    async fn run<T, F>(&self, operation: Operation, key: Option<&Key>, effect: Effect, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        told(operation, key, self.core().home.run(effect, work).await)
    }

    /// As [`PostgresStore::run`], for several answers.
    async fn run_many<T, F>(&self, operation: Operation, keys: Vec<Key>, effect: Effect, work: F) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Vec<Result<T>>> + Send + 'static,
    {
        let answers = self.core().home.run(effect, async move { Ok(work.await) }).await;
        let answers = answers.unwrap_or_else(|error| {
            let alike = || Error::new(error.kind(), error.message().to_owned());
            keys.iter().map(|_| Err(alike())).collect()
        });
        keys.iter().zip(answers).map(|(key, answer)| told(operation, Some(key), answer)).collect()
    }

    /// Refuses a write where it is refused without looking.
    fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        options.check(self.capabilities())?;
        self.core().info.limits.check_value(value.len())
    }

    fn listener(&self, capability: Capability) -> Result<&Listener> {
        self.core().home.check()?;
        self.core().listener.as_ref().ok_or_else(|| Error::unsupported(capability))
    }

    /// How long it may take until the server is listened to.
    fn patience(&self) -> Duration {
        self.core().links.limit.saturating_mul(2)
    }
}

/// Says where an error came from.
fn told<T>(operation: Operation, key: Option<&Key>, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let error = error.with_operation(operation).with_backend(PostgresStore::NAME);
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    })
}

/// The lifetime of a write that a lane can carry.
pub(crate) fn plain(options: &SetOptions) -> Option<Lifetime> {
    match (&options.when, options.return_previous) {
        (When::Always, false) => Lifetime::new(options.expiry),
        _ => None,
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for PostgresStore {
    fn info(&self) -> &StoreInfo {
        &self.core().info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let (core, own) = (Arc::clone(self.core()), key.clone());
        self.run(Operation::Get, Some(key), Effect::None, async move {
            lane::call(&core, Get { key: own, expected: core.answers.expected() }).await
        })
        .await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        told(Operation::Set, Some(key), self.check_set(&value, options))?;
        let (core, own, version) = (Arc::clone(self.core()), key.clone(), Version::random());
        let effect = Effect::Write(Some(version));
        match plain(options) {
            Some(lifetime) if !matches!(options.expiry, Expiry::At(_)) => {
                let set = Set { key: own, value, version, lifetime };
                self.run(Operation::Set, Some(key), effect, async move { lane::call(&core, set).await }).await
            }
            _ => {
                let set = SetAlone { key: own, value, version, options: options.clone() };
                self.run(Operation::Set, Some(key), effect, async move { set.send(&core).await }).await
            }
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        told(Operation::Delete, Some(key), options.check(self.capabilities()))?;
        let (core, own, options) = (Arc::clone(self.core()), key.clone(), options.clone());
        let work = async move {
            if options == DeleteOptions::default() {
                return lane::call(&core, Delete(own)).await;
            }
            write::delete(&core, &own, &options).await
        };
        self.run(Operation::Delete, Some(key), Effect::Write(None), work).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let (core, own) = (Arc::clone(self.core()), key.clone());
        let work = async move { write::contains(&core, &own).await };
        self.run(Operation::Contains, Some(key), Effect::None, work).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let (core, own) = (Arc::clone(self.core()), keys.to_vec());
        let work = async move { many::get(&core, &own).await };
        self.run_many(Operation::GetMany, keys.to_vec(), Effect::None, work).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let keys = items.iter().map(|item| item.key.clone()).collect();
        let checked: Vec<_> = items.iter().map(|item| self.check_set(&item.value, &item.options)).collect();
        let (core, own) = (Arc::clone(self.core()), items.to_vec());
        let work = async move { many::set(&core, own, checked).await };
        self.run_many(Operation::SetMany, keys, Effect::Write(None), work).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let (core, own) = (Arc::clone(self.core()), keys.to_vec());
        let work = async move { many::delete(&core, &own).await };
        self.run_many(Operation::DeleteMany, keys.to_vec(), Effect::Write(None), work).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        told(Operation::List, None, query.check(self.capabilities()))?;
        let (core, query) = (Arc::clone(self.core()), query.clone());
        self.run(Operation::List, None, Effect::None, async move { list::page(&core, &query).await }).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let (core, prefix) = (Arc::clone(self.core()), prefix.clone());
        let work = async move { list::clear(&core, &prefix).await };
        self.run(Operation::Clear, None, Effect::Write(None), work).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let (core, own) = (Arc::clone(self.core()), key.clone());
        let work = async move { write::touch(&core, &own, expiry).await };
        self.run(Operation::Touch, Some(key), Effect::Write(None), work).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        told(Operation::Increment, Some(key), options.check(self.capabilities()))?;
        let (core, own, options) = (Arc::clone(self.core()), key.clone(), options.clone());
        let version = Version::random();
        let work = async move { write::increment(&core, &own, by, &options, version).await };
        self.run(Operation::Increment, Some(key), Effect::Write(Some(version)), work).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let valid = transaction.validate(self.capabilities(), &self.core().info.limits);
        told(Operation::Commit, None, valid)?;
        let (core, commit) = (Arc::clone(self.core()), Commit::new(transaction.clone()));
        let effect = commit.effect();
        self.run(Operation::Commit, None, effect, async move { commit.send(&core).await }).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let asked = query.check(self.capabilities()).and_then(|()| self.listener(Capability::Watch).map(drop));
        told(Operation::Watch, None, asked)?;
        let inbox = self.core().changes.subscribe(query.target.prefix());
        let (core, patience) = (Arc::clone(self.core()), self.patience());
        let work = async move {
            let listener = core.listener.as_ref().ok_or_else(|| Error::unsupported(Capability::Watch))?;
            listener.listen(true, patience).await
        };
        self.run(Operation::Watch, None, Effect::None, work).await?;
        Ok(kv_core::follow(self.clone(), query.clone(), inbox))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let asked = self.listener(Capability::Messages).map(drop);
        let asked = asked.and_then(|()| self.core().info.limits.check_message(message.len()));
        told(Operation::Publish, Some(channel), asked)?;
        let (core, own) = (Arc::clone(self.core()), channel.clone());
        let work = async move { message::publish(&core, &own, &message).await };
        self.run(Operation::Publish, Some(channel), Effect::Write(None), work).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        told(Operation::Subscribe, None, self.listener(Capability::Messages).map(drop))?;
        // It keeps the connection from being given up meanwhile, and hears what was published before.
        let early = self.core().letters.subscribe(channels.clone());
        let (core, patience) = (Arc::clone(self.core()), self.patience());
        let work = async move {
            let listener = core.listener.as_ref().ok_or_else(|| Error::unsupported(Capability::Messages))?;
            listener.listen(false, patience).await
        };
        self.run(Operation::Subscribe, None, Effect::None, work).await?;
        let inbox = self.core().letters.subscribe(channels.clone());
        drop(early);
        Ok(kv_core::deliver(inbox))
    }

    async fn ping(&self) -> Result<()> {
        let core = Arc::clone(self.core());
        let work = async move { core.read(&Sql::new("SELECT 1", &[]), &[]).await.map(drop) };
        self.run(Operation::Ping, None, Effect::None, work).await
    }

    /// What was acknowledged is as safe as the store declares, so there is nothing to wait for.
    async fn flush(&self) -> Result<()> {
        told(Operation::Flush, None, self.core().home.check())
    }

    async fn sweep(&self) -> Result<u64> {
        let core = Arc::clone(self.core());
        let work = async move {
            let swept = sweep::sweep(&core).await?;
            sweep::tidy(&core).await;
            Ok(swept)
        };
        self.run(Operation::Sweep, None, Effect::Write(None), work).await
    }

    async fn close(&self) -> Result<()> {
        let core = self.core();
        let is_drained = core.home.close(core.links.limit).await;
        core.changes.close();
        core.letters.close();
        // A pool that was given is its owner's.
        if core.links.canceller.is_some() {
            core.links.pool.close();
        }
        let closed = if is_drained {
            Ok(())
        } else {
            Err(Error::unavailable("calls under way did not end in time; they still end by themselves"))
        };
        told(Operation::Close, None, closed)
    }
}
