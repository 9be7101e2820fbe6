//! A view of a store that is limited to one namespace.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::change_sink::{ChangeSink, Registration};
use crate::delegate_store;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::NewExpiry;
use crate::key::{Key, KeyPrefix, Namespace};
use crate::list::{ListItem, ListPage, ListQuery};
use crate::message::{Message, MessageEvent, MessageStream};
use crate::moment::Moment;
use crate::options::{
    DeleteOptions, DeleteOutcome, GetOptions, GetOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome,
};
use crate::store::KvStore;
use crate::transaction::{Check, CommitOutcome, Mutation, Transaction};
use crate::watch::{GapReason, WatchEvent, WatchQuery, WatchStream, WatchTarget};

/// The part of a store that belongs to one [`Namespace`]. It is a complete store, including channels.
///
/// In the inner store, all keys of this store start with the segment of the namespace. A holder of the inner store
/// still sees all namespaces. Capabilities and limits are those of the inner store. Closing this store closes the inner
/// store.
#[derive(Debug, Clone)]
pub struct Namespaced<S> {
    inner: S,
    namespace: Namespace,
}

impl<S: KvStore> Namespaced<S> {
    /// Creates the view of `inner` for a namespace.
    pub fn new(inner: S, namespace: Namespace) -> Self {
        Self { inner, namespace }
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the inner store.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner store and drops the view.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Returns the stored key.
    ///
    /// # Errors
    /// `Invalid` if the stored key is longer than stores accept. A key in a namespace inside another namespace can be
    /// that long.
    fn wrap(&self, key: &Key) -> Result<Key> {
        let stored = self.namespace.wrap(key);
        let (bytes, limit) = (stored.as_str().len(), Namespace::MAX_KEY_BYTES);
        if bytes > limit {
            let message = format!("the key with its namespaces has {bytes} encoded bytes, the limit is {limit}");
            return Err(Error::invalid(message).with_key(key));
        }
        Ok(stored)
    }

    fn wrap_all(&self, keys: &[Key]) -> Result<Vec<Key>> {
        keys.iter().map(|key| self.wrap(key)).collect()
    }
}

/// Sets the key of an error to the key that the caller passed.
fn with_key<T>(key: &Key, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.with_key(key))
}

/// Sets the keys of errors as [`with_key`] does, for results in the order of the keys. If there are more results than
/// keys, the surplus results are returned unchanged, so that the caller reports the mismatch.
fn with_keys<'k, T>(keys: impl IntoIterator<Item = &'k Key>, results: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut keys = keys.into_iter();
    let context = |result| match keys.next() {
        Some(key) => with_key(key, result),
        None => result,
    };
    results.into_iter().map(context).collect()
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KvStore> KvStore for Namespaced<S> {
    delegate_store!(self.inner, except
        get get_with set delete contains get_many set_many delete_many list clear touch increment commit watch
        watch_into publish subscribe);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        with_key(key, self.inner.get(&self.wrap(key)?).await)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        with_key(key, self.inner.get_with(&self.wrap(key)?, options).await)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        with_key(key, self.inner.set(&self.wrap(key)?, value, options).await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        with_key(key, self.inner.delete(&self.wrap(key)?, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        with_key(key, self.inner.contains(&self.wrap(key)?).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if let Ok(stored) = self.wrap_all(keys) {
            return with_keys(keys, self.inner.get_many(&stored).await);
        }
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.get(key).await);
        }
        results
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let wrap = |SetItem { key, value, options }: &SetItem| {
            Ok(SetItem { key: self.wrap(key)?, value: value.clone(), options: options.clone() })
        };
        if let Ok(stored) = items.iter().map(wrap).collect::<Result<Vec<SetItem>>>() {
            return with_keys(items.iter().map(|item| &item.key), self.inner.set_many(&stored).await);
        }
        let mut results = Vec::with_capacity(items.len());
        for SetItem { key, value, options } in items {
            results.push(self.set(key, value.clone(), options).await);
        }
        results
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        if let Ok(stored) = self.wrap_all(keys) {
            return with_keys(keys, self.inner.delete_many(&stored).await);
        }
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.delete(key, &DeleteOptions::default()).await);
        }
        results
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let ListQuery { prefix, after, before, reverse, limit, keys_only, max_page_bytes } = query;
        let prefix = self.namespace.wrap_prefix(prefix);
        // This bound excludes the prefix's own key, for stores that use only the text of the prefix.
        let after = match after {
            Some(after) => Some(self.namespace.wrap(after)),
            None => prefix.excluded_key(),
        };
        let before = before.as_ref().map(|before| self.namespace.wrap(before));
        let page = self
            .inner
            .list(&ListQuery {
                prefix,
                after,
                before,
                reverse: *reverse,
                limit: *limit,
                keys_only: *keys_only,
                max_page_bytes: *max_page_bytes,
            })
            .await?;
        let strip = |ListItem { key, entry }| Some(ListItem { key: self.namespace.strip(&key)?, entry });
        Ok(ListPage {
            items: page.items.into_iter().filter_map(strip).collect(),
            damaged: page.damaged.into_iter().filter_map(|error| strip_error(&self.namespace, error)).collect(),
            next: page.next.and_then(|next| self.namespace.strip(&next)),
        })
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.inner.clear(&self.namespace.wrap_prefix(prefix)).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        with_key(key, self.inner.touch(&self.wrap(key)?, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        with_key(key, self.inner.increment(&self.wrap(key)?, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let Transaction { checks, mutations } = transaction;
        let check = |Check { key, when }: &Check| Ok(Check { key: self.wrap(key)?, when: when.clone() });
        let mutation = |mutation: &Mutation| {
            Ok(match mutation {
                Mutation::Set { key, value, expiry } => {
                    Mutation::Set { key: self.wrap(key)?, value: value.clone(), expiry: *expiry }
                }
                Mutation::Delete { key } => Mutation::Delete { key: self.wrap(key)? },
            })
        };
        let wrapped = Transaction {
            checks: checks.iter().map(check).collect::<Result<_>>()?,
            mutations: mutations.iter().map(mutation).collect::<Result<_>>()?,
        };
        self.inner.commit(&wrapped).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let WatchQuery { target, initial, report } = query;
        let target = wrap_target(&self.namespace, target);
        let stream = self.inner.watch(&WatchQuery { target, initial: *initial, report: *report }).await?;
        let namespace = self.namespace.clone();
        Ok(Box::pin(stream.filter_map(move |event| {
            let stripped = event.map(|event| strip_event(&namespace, event)).transpose();
            async move { stripped }
        })))
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let stripped = StrippedSink { namespace: self.namespace.clone(), sink };
        self.inner.watch_into(&wrap_target(&self.namespace, target), Arc::new(stripped)).await
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        with_key(channel, self.inner.publish(&self.wrap(channel)?, message).await)
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let stream = self.inner.subscribe(&self.namespace.wrap_prefix(channels)).await?;
        let namespace = self.namespace.clone();
        Ok(Box::pin(stream.filter_map(move |event| {
            let stripped = event.map(|event| strip_message(&namespace, event)).transpose();
            async move { stripped }
        })))
    }
}

/// Returns the stored target of a target in the namespace.
fn wrap_target(namespace: &Namespace, target: &WatchTarget) -> WatchTarget {
    match target {
        WatchTarget::Prefix(prefix) => WatchTarget::Prefix(namespace.wrap_prefix(prefix)),
        WatchTarget::Key(key) => WatchTarget::Key(namespace.wrap(key)),
    }
}

/// A sink of the inner store that removes the namespace from each key.
#[derive(Debug)]
struct StrippedSink {
    namespace: Namespace,
    sink: Arc<dyn ChangeSink>,
}

impl ChangeSink for StrippedSink {
    fn changed(&self, key: &Key) {
        if let Some(key) = self.namespace.strip(key) {
            self.sink.changed(&key);
        }
    }

    fn current(&self, as_of: Moment) {
        self.sink.current(as_of);
    }

    fn lost(&self, reason: GapReason) {
        self.sink.lost(reason);
    }
}

/// Removes the namespace from the key of an error about a damaged entry.
fn strip_error(namespace: &Namespace, error: Error) -> Option<Error> {
    match error.key().map(|key| namespace.strip(key)) {
        Some(Some(key)) => Some(error.with_key(&key)),
        Some(None) => None,
        None => Some(error),
    }
}

/// Removes the namespace from an event. Returns `None` for a key outside the namespace, such as the key that consists
/// of the namespace's segment alone.
fn strip_event(namespace: &Namespace, event: WatchEvent) -> Option<WatchEvent> {
    Some(match event {
        WatchEvent::Set { key, entry } => WatchEvent::Set { key: namespace.strip(&key)?, entry },
        WatchEvent::Removed { key } => WatchEvent::Removed { key: namespace.strip(&key)? },
        WatchEvent::Changed { key } => WatchEvent::Changed { key: namespace.strip(&key)? },
        other @ (WatchEvent::SnapshotEnd | WatchEvent::Suspended { .. } | WatchEvent::Gap { .. }) => other,
    })
}

fn strip_message(namespace: &Namespace, event: MessageEvent) -> Option<MessageEvent> {
    Some(match event {
        MessageEvent::Message(Message { channel, payload }) => {
            MessageEvent::Message(Message { channel: namespace.strip(&channel)?, payload })
        }
        other @ (MessageEvent::Suspended { .. } | MessageEvent::Gap { .. }) => other,
    })
}
