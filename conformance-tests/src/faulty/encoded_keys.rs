//! A store that encodes its keys differently.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, IncrementOptions, Key, KeyPrefix, KvStore, ListItem, ListPage,
    ListQuery, Mutation, NewExpiry, Result, SetOptions, SetOutcome, Transaction, WatchEvent, WatchQuery, WatchStream,
    delegate_store,
};

use super::scan;

/// An encoding of keys. `list` and `watch` decode it.
pub(super) trait KeyEncoding: Debug + Send + Sync + 'static {
    /// Returns the key under which the entry of `key` is stored.
    fn encode(&self, key: &Key) -> Key;
    /// Returns the key that `list` and `watch` show for a stored key.
    fn decode(&self, stored: &Key) -> Key;
}

/// An encoding that consists of two functions without state.
#[derive(Debug)]
pub(super) struct FunctionEncoding {
    encode: fn(&Key) -> Key,
    decode: fn(&Key) -> Key,
}

impl KeyEncoding for FunctionEncoding {
    fn encode(&self, key: &Key) -> Key {
        (self.encode)(key)
    }

    fn decode(&self, stored: &Key) -> Key {
        (self.decode)(stored)
    }
}

/// Encodes each segment separately, and does not decode.
#[derive(Debug)]
pub(super) struct SegmentEncoding {
    encode: fn(&str) -> String,
}

impl KeyEncoding for SegmentEncoding {
    fn encode(&self, key: &Key) -> Key {
        Key::new(key.segments().map(|segment| (self.encode)(&segment))).unwrap_or_else(|_| key.clone())
    }

    fn decode(&self, stored: &Key) -> Key {
        stored.clone()
    }
}

/// Encodes keys before they reach the good store. `list` reads all keys, decodes them, and then selects.
#[derive(Debug)]
pub(super) struct EncodedKeys<C> {
    inner: Arc<dyn KvStore>,
    encoding: Arc<C>,
}

impl EncodedKeys<FunctionEncoding> {
    pub(super) fn with_functions(inner: Arc<dyn KvStore>, encode: fn(&Key) -> Key, decode: fn(&Key) -> Key) -> Self {
        Self::new(inner, FunctionEncoding { encode, decode })
    }

    /// Encodes each segment with `encode`, and lists the encoded segments.
    pub(super) fn by_segment(inner: Arc<dyn KvStore>, encode: fn(&str) -> String) -> EncodedKeys<SegmentEncoding> {
        EncodedKeys::new(inner, SegmentEncoding { encode })
    }
}

impl<C: KeyEncoding> EncodedKeys<C> {
    pub(super) fn new(inner: Arc<dyn KvStore>, encoding: C) -> Self {
        Self { inner, encoding: Arc::new(encoding) }
    }

    fn encode(&self, key: &Key) -> Key {
        self.encoding.encode(key)
    }
}

#[async_trait]
impl<C: KeyEncoding> KvStore for EncodedKeys<C> {
    delegate_store!(self.inner, except
        get get_with set delete contains get_many set_many delete_many list clear touch increment commit watch);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(&self.encode(key)).await.map_err(|error| error.with_key(key))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(&self.encode(key), value, options).await.map_err(|error| error.with_key(key))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.inner.delete(&self.encode(key), options).await.map_err(|error| error.with_key(key))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info().capabilities)?;
        let mut items = scan::list_all(&*self.inner, &KeyPrefix::ALL, query.keys_only).await?;
        for ListItem { key, .. } in &mut items {
            *key = self.encoding.decode(key);
        }
        Ok(scan::page(items, query, |key| query.prefix.covers(key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |stored| prefix.covers(&self.encoding.decode(stored))).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.inner.touch(&self.encode(key), expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.inner.increment(&self.encode(key), by, options).await.map_err(|error| error.with_key(key))
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        for check in &mut transaction.checks {
            check.key = self.encode(&check.key);
        }
        for mutation in &mut transaction.mutations {
            if let Mutation::Set { key, .. } | Mutation::Delete { key } = mutation {
                *key = self.encode(key);
            }
        }
        self.inner.commit(&transaction).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut everything = WatchQuery::prefix(KeyPrefix::ALL);
        everything.initial = query.initial;
        everything.report = query.report;
        let (target, encoding) = (query.target.clone(), Arc::clone(&self.encoding));
        let events = self.inner.watch(&everything).await?.filter_map(move |event| {
            let event = event.map(|event| match event {
                WatchEvent::Set { key, entry } => WatchEvent::Set { key: encoding.decode(&key), entry },
                WatchEvent::Removed { key } => WatchEvent::Removed { key: encoding.decode(&key) },
                WatchEvent::Changed { key } => WatchEvent::Changed { key: encoding.decode(&key) },
                other => other,
            });
            let is_wanted = match &event {
                Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key } | WatchEvent::Changed { key }) => {
                    target.covers(key)
                }
                _ => true,
            };
            std::future::ready(is_wanted.then_some(event))
        });
        Ok(Box::pin(events))
    }
}
