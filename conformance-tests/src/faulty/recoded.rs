//! A store whose keys are written in an encoding of its own.

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

/// How keys are written, and read back by `list` and `watch`.
pub(super) trait Coding: Debug + Send + Sync + 'static {
    /// The key as it is stored.
    fn encode(&self, key: &Key) -> Key;
    /// The key as it is listed.
    fn decode(&self, stored: &Key) -> Key;
}

/// An encoding that needs no memory.
#[derive(Debug)]
pub(super) struct Spelling {
    encode: fn(&Key) -> Key,
    decode: fn(&Key) -> Key,
}

impl Coding for Spelling {
    fn encode(&self, key: &Key) -> Key {
        (self.encode)(key)
    }

    fn decode(&self, stored: &Key) -> Key {
        (self.decode)(stored)
    }
}

/// An encoding of each segment by itself, that is not decoded.
#[derive(Debug)]
pub(super) struct Segmentwise {
    spell: fn(&str) -> String,
}

impl Coding for Segmentwise {
    fn encode(&self, key: &Key) -> Key {
        Key::new(key.segments().map(|segment| (self.spell)(&segment))).unwrap_or_else(|_| key.clone())
    }

    fn decode(&self, stored: &Key) -> Key {
        stored.clone()
    }
}

/// Keys go through the coding; lists read everything, decode, and then choose.
#[derive(Debug)]
pub(super) struct Recoded<C> {
    inner: Arc<dyn KvStore>,
    coding: Arc<C>,
}

impl Recoded<Spelling> {
    pub(super) fn spelled(inner: Arc<dyn KvStore>, encode: fn(&Key) -> Key, decode: fn(&Key) -> Key) -> Self {
        Self::new(inner, Spelling { encode, decode })
    }

    /// Each segment is written like this, and listed as it was written.
    pub(super) fn by_segment(inner: Arc<dyn KvStore>, spell: fn(&str) -> String) -> Recoded<Segmentwise> {
        Recoded::new(inner, Segmentwise { spell })
    }
}

impl<C: Coding> Recoded<C> {
    pub(super) fn new(inner: Arc<dyn KvStore>, coding: C) -> Self {
        Self { inner, coding: Arc::new(coding) }
    }

    fn encode(&self, key: &Key) -> Key {
        self.coding.encode(key)
    }
}

#[async_trait]
impl<C: Coding> KvStore for Recoded<C> {
    delegate_store!(self.inner, except
        get set delete contains get_many set_many delete_many list clear touch increment commit watch);

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
        let mut items = scan::everything(&*self.inner, &KeyPrefix::ALL, query.keys_only).await?;
        for ListItem { key, .. } in &mut items {
            *key = self.coding.decode(key);
        }
        Ok(scan::page(items, query, |key| query.prefix.covers(key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |stored| prefix.covers(&self.coding.decode(stored))).await
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
        everything.keys_only = query.keys_only;
        let (target, coding) = (query.target.clone(), Arc::clone(&self.coding));
        let events = self.inner.watch(&everything).await?.filter_map(move |event| {
            let event = event.map(|event| match event {
                WatchEvent::Set { key, entry } => WatchEvent::Set { key: coding.decode(&key), entry },
                WatchEvent::Removed { key } => WatchEvent::Removed { key: coding.decode(&key) },
                other => other,
            });
            let is_wanted = match &event {
                Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => target.covers(key),
                _ => true,
            };
            std::future::ready(is_wanted.then_some(event))
        });
        Ok(Box::pin(events))
    }
}
