//! The store handle and its implementation of [`KvStore`](kv_core::KvStore).

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::adapter::Effect;
use kv_core::{
    Capabilities, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, GetOptions, GetOutcome,
    IncrementOptions, Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Registration,
    Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, Version, WatchQuery, WatchStream, WatchTarget,
};

use crate::coalesce::Batcher;
use crate::error::{CONTEXT, NAME};
use crate::get::{self, Get};
use crate::multi_key::PlainSet;
use crate::state::State;
use crate::statement::Sql;
use crate::transaction::Commit;
use crate::write::{self, Delete, SingleSet};
use crate::{batch, clear, list, message, sweep, sweeper, watch};

/// A store in a table of a PostgreSQL database.
///
/// Clones share one store. [`close`](KvStore::close) on any clone closes the store for all clones. Dropping the last
/// clone closes the store, too. A watch stream holds a clone.
///
/// The calls and tasks of the store run on the tokio runtime that opened it.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// The fields that all clones share. The store's tasks hold only the [`State`], so dropping the last clone stops the
/// tasks.
#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    gets: Arc<Batcher<Get>>,
    sets: Arc<Batcher<PlainSet>>,
    deletes: Arc<Batcher<Delete>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.state.stop();
    }
}

impl PostgresStore {
    pub(crate) fn new(state: Arc<State>) -> Self {
        let (gets, sets, deletes) = (Batcher::new(&state), Batcher::new(&state), Batcher::new(&state));
        Self { shared: Arc::new(Shared { state, gets, sets, deletes }) }
    }

    fn state(&self) -> &Arc<State> {
        &self.shared.state
    }

    fn capabilities(&self) -> &Capabilities {
        &self.state().info.capabilities
    }

    /// Runs `work` on the store's runtime, and adds the context to its error. If the store is not open, returns an
    /// error and does not run `work`.
    async fn run<T, F>(&self, operation: Operation, effect: Effect, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        CONTEXT.operation(operation, self.state().runtime.run(effect, work).await)
    }

    /// Runs work as [`PostgresStore::run`] does, for an operation on one key.
    async fn run_key<T, F>(&self, operation: Operation, key: &Key, effect: Effect, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        CONTEXT.key(operation, key, self.state().runtime.run(effect, work).await)
    }

    /// Runs work as [`PostgresStore::run`] does, for an operation on several keys.
    async fn run_keys<T, F>(&self, operation: Operation, keys: Vec<Key>, effect: Effect, work: F) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Vec<Result<T>>> + Send + 'static,
    {
        let results = self.state().runtime.run(effect, async move { Ok(work.await) }).await;
        let results = results.unwrap_or_else(|error| {
            let clone = || Error::new(error.kind(), error.message().to_owned());
            keys.iter().map(|_| Err(clone())).collect()
        });
        CONTEXT.keys(operation, &keys, results)
    }

    /// Checks first that the store is open, then the options, and then the size of the value.
    fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        self.state().check_open()?;
        options.check(self.capabilities())?;
        self.state().info.limits.check_value(value.len())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for PostgresStore {
    fn info(&self) -> &StoreInfo {
        &self.state().info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let (state, gets, owned_key) = (Arc::clone(self.state()), Arc::clone(&self.shared.gets), key.clone());
        let work = async move { gets.call(Get::new(owned_key, &state)).await };
        self.run_key(Operation::Get, key, Effect::Read, work).await
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        CONTEXT.key(Operation::Get, key, options.check(self.capabilities()))?;
        let Some(version) = options.unless_version else {
            return Ok(GetOutcome::of(self.get(key).await?, options));
        };
        let (state, owned_key) = (Arc::clone(self.state()), key.clone());
        let work = async move { get::get_unless(&state, &owned_key, version).await };
        self.run_key(Operation::Get, key, Effect::Read, work).await
    }

    async fn time(&self) -> Result<SystemTime> {
        let state = Arc::clone(self.state());
        self.run(Operation::Time, Effect::Read, async move { get::time(&state).await }).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        CONTEXT.key(Operation::Set, key, self.check_set(&value, options))?;
        let (state, sets, version) = (Arc::clone(self.state()), Arc::clone(&self.shared.sets), Version::random());
        let set = SingleSet { key: key.clone(), value, version, options: options.clone() };
        let work = async move { write::set(&state, &sets, set).await };
        self.run_key(Operation::Set, key, Effect::Write(Some(version)), work).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let checked = self.state().check_open().and_then(|()| options.check(self.capabilities()));
        CONTEXT.key(Operation::Delete, key, checked)?;
        let (state, deletes) = (Arc::clone(self.state()), Arc::clone(&self.shared.deletes));
        let (owned_key, options) = (key.clone(), options.clone());
        let work = async move { write::delete(&state, &deletes, owned_key, &options).await };
        self.run_key(Operation::Delete, key, Effect::Write(None), work).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let (state, owned_key) = (Arc::clone(self.state()), key.clone());
        let work = async move { get::contains(&state, &owned_key).await };
        self.run_key(Operation::Contains, key, Effect::Read, work).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let (state, owned_keys) = (Arc::clone(self.state()), keys.to_vec());
        let work = async move { batch::get_many(&state, &owned_keys).await };
        self.run_keys(Operation::GetMany, keys.to_vec(), Effect::Read, work).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let keys = items.iter().map(|item| item.key.clone()).collect();
        let checked: Vec<_> = items.iter().map(|item| self.check_set(&item.value, &item.options)).collect();
        let (state, owned_items) = (Arc::clone(self.state()), items.to_vec());
        let work = async move { batch::set_many(&state, owned_items, checked).await };
        self.run_keys(Operation::SetMany, keys, Effect::Write(None), work).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let (state, owned_keys) = (Arc::clone(self.state()), keys.to_vec());
        let work = async move { batch::delete_many(&state, &owned_keys).await };
        self.run_keys(Operation::DeleteMany, keys.to_vec(), Effect::Write(None), work).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let checked = self.state().check_open().and_then(|()| query.check(self.capabilities()));
        CONTEXT.operation(Operation::List, checked)?;
        let (state, query) = (Arc::clone(self.state()), query.clone());
        let page = self.run(Operation::List, Effect::Read, async move { list::page(&state, &query).await });
        let mut page = page.await?;
        let context = |error: Error| error.with_operation(Operation::List).with_backend(NAME);
        page.damaged = page.damaged.into_iter().map(context).collect();
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let (state, prefix) = (Arc::clone(self.state()), prefix.clone());
        let work = async move { clear::clear(&state, &prefix).await };
        self.run(Operation::Clear, Effect::Write(None), work).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let (state, owned_key) = (Arc::clone(self.state()), key.clone());
        let work = async move { write::touch(&state, &owned_key, expiry).await };
        self.run_key(Operation::Touch, key, Effect::Write(None), work).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let checked = self.state().check_open().and_then(|()| options.check(self.capabilities()));
        CONTEXT.key(Operation::Increment, key, checked)?;
        let (state, owned_key, options) = (Arc::clone(self.state()), key.clone(), options.clone());
        let version = Version::random();
        let work = async move { write::increment(&state, &owned_key, by, &options, version).await };
        self.run_key(Operation::Increment, key, Effect::Write(Some(version)), work).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let (capabilities, limits) = (self.capabilities(), &self.state().info.limits);
        let checked = self.state().check_open().and_then(|()| transaction.validate(capabilities, limits));
        CONTEXT.operation(Operation::Commit, checked)?;
        let (state, commit) = (Arc::clone(self.state()), Commit::new(transaction.clone()));
        let effect = commit.effect();
        self.run(Operation::Commit, effect, async move { commit.send(&state).await }).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        CONTEXT.operation(Operation::Watch, watch::watch(self.state(), self.clone(), query).await)
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        CONTEXT.operation(Operation::Watch, watch::watch_into(self.state(), target, sink).await)
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let (state, owned_channel) = (Arc::clone(self.state()), channel.clone());
        let work = async move { message::publish(&state, &owned_channel, &message).await };
        self.run_key(Operation::Publish, channel, Effect::Write(None), work).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        CONTEXT.operation(Operation::Subscribe, message::subscribe(self.state(), channels).await)
    }

    async fn ping(&self) -> Result<()> {
        let state = Arc::clone(self.state());
        let work = async move { state.read(&Sql::new("SELECT 1", &[]), &[]).await.map(drop) };
        self.run(Operation::Ping, Effect::Read, work).await
    }

    /// Returns at once, because an acknowledged write already has the declared durability.
    async fn flush(&self) -> Result<()> {
        CONTEXT.operation(Operation::Flush, self.state().check_open())
    }

    async fn sweep(&self) -> Result<u64> {
        let state = Arc::clone(self.state());
        let work = async move {
            let swept = sweep::sweep(&state).await?;
            sweeper::housekeep(&state).await;
            Ok(swept)
        };
        self.run(Operation::Sweep, Effect::Write(None), work).await
    }

    async fn close(&self) -> Result<()> {
        CONTEXT.operation(Operation::Close, self.state().close().await)
    }
}
