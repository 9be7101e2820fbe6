//! Operations over the descendants of a key that include the key itself.

use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, Result, WatchTarget, delegate_store};

use super::faults;
use super::watch::WiderTarget;

faults! { namespaces:
    /// Clears by the text of the prefix, so clearing the namespace `app` also removes the key `["app"]` outside it.
    clear_ignores_the_exclusion: "L-5"
        ["namespaces/clear_leaves_the_key_around", "namespaces/clear_of_descendants"]
        |inner, _clock| ClearsOwnKey { inner };
    /// Lists by the text of the prefix, so the descendants of a key include the key itself.
    list_includes_the_own_key: "L-5"
        ["namespaces/list_leaves_out_the_key_around"]
        |inner, _clock| ListsOwnKey { inner };
    /// Watches by the text of the prefix, so a watcher of the descendants of a key also gets reports of the key itself.
    watch_includes_the_own_key: "L-5"
        ["namespaces/watch_leaves_out_the_key_around", "namespaces/snapshot_leaves_out_the_key_around"]
        |inner, _clock| WiderTarget { inner, widen: |target| match target {
            WatchTarget::Prefix(prefix) => WatchTarget::Prefix(with_own_key(&prefix)),
            other => other,
        } };
    /// Subscribes by the text of the prefix, so a subscriber of the descendants of a channel also gets messages of the
    /// channel itself.
    subscription_includes_the_own_channel: "L-5"
        ["namespaces/messages_leave_out_the_channel_around"]
        |inner, _clock| SubscribesToOwnChannel { inner };
}

/// The prefix of the same segments, which includes its own key.
fn with_own_key(prefix: &KeyPrefix) -> KeyPrefix {
    prefix.to_key().map_or(KeyPrefix::ALL, KeyPrefix::from)
}

#[derive(Debug)]
struct ClearsOwnKey {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsOwnKey {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.inner.clear(&with_own_key(prefix)).await
    }
}

#[derive(Debug)]
struct ListsOwnKey {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ListsOwnKey {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut whole = query.clone();
        whole.prefix = with_own_key(&query.prefix);
        self.inner.list(&whole).await
    }
}

#[derive(Debug)]
struct SubscribesToOwnChannel {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SubscribesToOwnChannel {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.inner.subscribe(&with_own_key(channels)).await
    }
}
