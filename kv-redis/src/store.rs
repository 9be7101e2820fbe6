//! The handle and the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    Capability, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, IncrementOptions, Key, KeyPrefix,
    KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Result, SetItem, SetOptions, SetOutcome,
    StoreInfo, Transaction, WatchEvent, WatchQuery, WatchStream,
};
use redis::Value;
use tokio::task::AbortHandle;

use crate::builder::RedisBuilder;
use crate::codec::Format;
use crate::config::RedisConfig;
use crate::error::{Effect, Failure, read};
use crate::gather::{self, Gather};
use crate::layout::{Layout, Shape};
use crate::link::Link;
use crate::request::Request;
use crate::script::Scripts;
use crate::sweep;
use crate::watch::{Ears, Kind};

/// A store on a Redis or Valkey server, or on a cluster of them: one namespace of a database.
///
/// A clone is the same handle. The store ends with its last clone, or for all of them when one is closed. It has connections
/// of its own: one to each server, and one more to each while somebody watches or subscribes.
#[derive(Debug, Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) info: StoreInfo,
    pub(crate) link: Link,
    pub(crate) layout: Arc<Layout>,
    pub(crate) format: Format,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) ears: Ears,
    pub(crate) gather: Gather,
    /// How many sets in a row found no entry to overwrite.
    pub(crate) misses: AtomicU32,
    /// Whether the namespace was found to be laid out otherwise.
    pub(crate) is_displaced: AtomicBool,
    is_closed: AtomicBool,
    sweeper: std::sync::OnceLock<AbortHandle>,
}

impl Shared {
    pub(crate) fn new(
        info: StoreInfo,
        link: Link,
        layout: Layout,
        config: &RedisConfig,
        scripts: Arc<Scripts>,
        channels: String,
    ) -> Arc<Self> {
        let layout = Arc::new(layout);
        let shared = Arc::new(Self {
            info,
            link,
            ears: Ears::new(Arc::clone(&layout), channels),
            layout,
            format: config.format,
            scripts,
            gather: Gather::default(),
            misses: AtomicU32::new(0),
            is_displaced: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            sweeper: std::sync::OnceLock::new(),
        });
        if shared.layout.shape == Shape::Ordered {
            let sweeping = tokio::spawn(sweep::keep_sweeping(Arc::downgrade(&shared), config.sweep_interval));
            // It is set here and nowhere else.
            let _ = shared.sweeper.set(sweeping.abort_handle());
        }
        shared
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    fn check_usable(&self) -> Result<(), Failure> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        if self.is_displaced.load(Ordering::Acquire) { Err(Failure::Displaced) } else { Ok(()) }
    }

    pub(crate) async fn call(&self, request: &Request) -> Result<Value, Failure> {
        self.check_usable()?;
        self.link.call(request).await
    }

    pub(crate) async fn call_many(&self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        if let Err(failure) = self.check_usable() {
            return vec![Err(failure); requests.len()];
        }
        match requests {
            [] => Vec::new(),
            [request] => vec![self.link.call(request).await],
            requests => self.link.call_many(requests).await,
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
        self.ears.close();
        self.link.close();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl RedisStore {
    /// The name in reports and errors.
    pub(crate) const NAME: &'static str = "redis";

    /// Builds a store: its servers, namespace, clock and settings.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::new()
    }

    /// Opens the store that a URL names, as [`RedisStore::from_url`] does.
    ///
    /// # Errors
    /// As [`RedisBuilder::open`].
    pub async fn open(url: &str) -> Result<Self> {
        let builder = url.parse().and_then(|url| RedisBuilder::from_url(&url));
        told(Operation::Open, None, builder)?.open().await
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// Says where an error came from.
fn told<T>(operation: Operation, key: Option<&Key>, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let error = error.with_operation(operation).with_backend(RedisStore::NAME);
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    })
}

fn all_told<'k, T>(
    operation: Operation,
    keys: impl IntoIterator<Item = &'k Key>,
    results: Vec<Result<T>>,
) -> Vec<Result<T>> {
    keys.into_iter().zip(results).map(|(key, result)| told(operation, Some(key), result)).collect()
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for RedisStore {
    fn info(&self) -> &StoreInfo {
        &self.shared.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        told(Operation::Get, Some(key), gather::get(&self.shared, key).await)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        told(Operation::Set, Some(key), self.shared.set(key, value, options).await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        told(Operation::Delete, Some(key), self.shared.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        told(Operation::Contains, Some(key), self.shared.contains(key).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        all_told(Operation::GetMany, keys, self.shared.get_many(keys).await)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let keys = items.iter().map(|item| &item.key);
        all_told(Operation::SetMany, keys, self.shared.set_many(items).await)
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        all_told(Operation::DeleteMany, keys, self.shared.delete_many(keys).await)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        told(Operation::List, None, self.shared.list(query).await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        told(Operation::Clear, None, self.shared.clear(prefix).await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        told(Operation::Touch, Some(key), self.shared.touch(key, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        told(Operation::Increment, Some(key), self.shared.increment(key, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let commit = async {
            self.shared.check_open()?;
            self.shared.commit(transaction).await
        };
        told(Operation::Commit, None, commit.await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let watch = async {
            query.check(&self.shared.info.capabilities)?;
            self.shared.check_open()?;
            let inbox = self.shared.ears.changes.subscribe(query.target.prefix());
            Ears::listen(&self.shared, Kind::Changes).await.map_err(read)?;
            let events = kv_core::follow(self.clone(), query.clone(), inbox);
            if !self.shared.layout.data.is_empty() {
                return Ok(events);
            }
            // All keys of the database are heard of, and those of other types are none of ours.
            let is_ours = |event: &Result<WatchEvent>| {
                !event.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Corrupt))
            };
            Ok(events.filter(move |event| std::future::ready(is_ours(event))).boxed())
        };
        told(Operation::Watch, None, watch.await)
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let publish = async {
            self.shared.info.limits.check_message(message.len())?;
            let (name, slot) = self.shared.ears.channel(channel);
            let mut cmd = redis::cmd("PUBLISH");
            cmd.arg(name).arg(message.as_ref());
            let answer = self.shared.call(&Request::new(slot, cmd)).await;
            answer.map(drop).map_err(|failure| failure.into_error(Effect::Writes(None)))
        };
        told(Operation::Publish, Some(channel), publish.await)
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let subscribe = async {
            self.shared.info.capabilities.require(Capability::Messages)?;
            self.shared.check_open()?;
            // What was published before the call is told to nobody new: the second inbox begins behind it.
            let hub = &self.shared.ears.letters;
            let first = hub.subscribe(channels.clone());
            Ears::listen(&self.shared, Kind::Messages).await.map_err(read)?;
            let inbox = hub.subscribe(channels.clone());
            drop(first);
            Ok(kv_core::deliver(inbox))
        };
        told(Operation::Subscribe, None, subscribe.await)
    }

    async fn ping(&self) -> Result<()> {
        let ping = async {
            self.shared.check_open()?;
            for node in self.shared.link.masters() {
                self.shared.link.call_node(&node, &redis::cmd("PING")).await.map_err(read)?;
            }
            Ok(())
        };
        told(Operation::Ping, None, ping.await)
    }

    async fn flush(&self) -> Result<()> {
        // Nothing waits here: what was acknowledged is as safe as the server makes it.
        told(Operation::Flush, None, self.shared.check_open())
    }

    async fn sweep(&self) -> Result<u64> {
        told(Operation::Sweep, None, self.shared.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        self.shared.close();
        Ok(())
    }
}
