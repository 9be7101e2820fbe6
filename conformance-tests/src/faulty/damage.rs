//! Stores that handle damaged entries wrongly.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Entry, Error, ErrorKind, Key, KeyPrefix, KvStore, ListPage, ListQuery, Result, SetOptions, SetOutcome,
    delegate_store,
};

use super::{faults, scan};

faults! { damage:
    /// `get` returns nothing for a damaged entry, so that an application creates the entry again.
    reads_as_absent: "E-4" ["damage/get_reports_it"] |inner, _clock| Absent { inner };
    /// One damaged entry fails the whole `get_many`.
    fails_the_batch: "E-4" ["damage/get_many_reports_it"] |inner, _clock| WholeBatch { inner };
    /// A list ends at a damaged entry, so that a backup lacks all entries after it.
    ends_the_list: "E-4" ["damage/list_goes_on"] |inner, _clock| EndsList { inner };
    /// A list omits damaged entries without an error, so that a backup is incomplete without any notice.
    hidden_in_lists: "E-4" ["damage/list_goes_on", "damage/list_backwards_goes_on"] |inner, _clock| Hides { inner };
    /// A reversed list reports a damaged entry on every page.
    repeated_in_lists: "E-4" ["damage/list_backwards_goes_on"] |inner, _clock| Repeats { inner };
    /// `set` reads the old entry first, and fails if the old entry is damaged.
    cannot_be_replaced: "E-4" ["damage/a_set_replaces_it"] |inner, _clock| ReadsFirst { inner };
    /// `clear` removes only the entries that `list` returns, and so leaves damaged entries.
    left_by_clear: "L-5" ["damage/clear_removes_it"] |inner, _clock| ClearsListed { inner };
}

#[derive(Debug)]
struct Absent {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Absent {
    delegate_store!(self.inner, except get);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        match self.inner.get(key).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
            found => found,
        }
    }
}

#[derive(Debug)]
struct WholeBatch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for WholeBatch {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let found = self.inner.get_many(keys).await;
        match found.iter().find_map(|entry| entry.as_ref().err().cloned()) {
            Some(error) => keys.iter().map(|_| Err(error.clone())).collect(),
            None => found,
        }
    }
}

#[derive(Debug)]
struct EndsList {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EndsList {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        if let Some(key) = page.damaged.first().and_then(Error::key) {
            page.items.retain(|item| item.key < *key);
            page.next = None;
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct Hides {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Hides {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        Ok(ListPage { damaged: Vec::new(), ..self.inner.list(query).await? })
    }
}

#[derive(Debug)]
struct Repeats {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Repeats {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let page = self.inner.list(query).await?;
        if !query.reverse {
            return Ok(page);
        }
        let all = self.inner.list(&ListQuery::new(query.prefix.clone())).await?;
        Ok(ListPage { damaged: all.damaged, ..page })
    }
}

#[derive(Debug)]
struct ReadsFirst {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ReadsFirst {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.get(key).await?;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct ClearsListed {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsListed {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| prefix.covers(key)).await
    }
}
