//! Stores that declare less than they are asked for, and do not say so.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capabilities, Capability, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, IncrementOptions,
    Initial, Key, KeyPrefix, KvStore, List, ListPage, ListQuery, MessageStream, NewExpiry, Result, SetItem, SetOptions,
    SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream, When, delegate_store,
};

use super::faults;

faults! { refuses:
    options_are_dropped: "I-2" "declares no conditions, and writes without them where they are asked for"
        ["refuses/conditions_on_delete", "refuses/conditions_on_set", "refuses/previous_on_delete",
         "refuses/previous_on_set"]
        |inner, _clock| OptionsDropped { info: core(&inner), inner };
    batch_options_are_dropped: "I-2" "refuses a condition of a single set, and drops those of a batch"
        ["refuses/conditions_in_set_many", "refuses/previous_in_set_many", "refuses/versions_in_conditions"]
        |inner, _clock| BatchOptionsDropped { info: core(&inner), inner };
    operations_do_nothing: "I-2" "answers operations that it does not have as if there were nothing to do"
        ["refuses/commit", "refuses/clear", "refuses/increment", "refuses/list"]
        |inner, _clock| Idle { info: core(&inner), inner };
    streams_never_say: "I-2" "gives streams on which nothing comes, where it has none"
        ["refuses/publish", "refuses/subscribe", "refuses/watch"]
        |inner, _clock| Silent { info: core(&inner), inner };
    another_capability_is_named: "I-2" "names the wrong capability when it refuses"
        ["refuses/touch"]
        |inner, _clock| Misnaming { info: core(&inner), inner };
    version_checks_pass: "I-2" "has no versions, and takes every check of one for true"
        ["refuses/versions_in_checks"]
        |inner, _clock| Less::new(inner, |all| all.versions = false, Lie::VersionChecks);
    versions_are_made_up: "S-3" "declares no versions, and gives some"
        ["errors/no_versions_are_made_up", "atomicity/transfers_keep_the_sum"]
        |inner, _clock| Less::new(inner, |all| all.versions = false, Lie::Versions);
    snapshots_are_empty: "I-2" "cannot list, and gives an empty snapshot"
        ["refuses/snapshot_of_a_prefix"]
        |inner, _clock| Less::new(inner, |all| all.list = List::None, Lie::Snapshots);
    deadlines_are_made_up: "T-4" "cannot tell deadlines, and says that there is none"
        ["refuses/deadlines_are_not_made_up"]
        |inner, _clock| Less::new(inner, |all| all.deadlines = false, Lie::Deadlines);
}

fn core(inner: &Arc<dyn KvStore>) -> StoreInfo {
    let mut info = inner.info().clone();
    info.capabilities = Capabilities::CORE;
    info
}

/// The entry as a store of the Core level shows it.
fn plain(entry: Option<Entry>) -> Option<Entry> {
    entry.map(|mut entry| {
        entry.version = None;
        entry.expires = Expires::Unknown;
        entry
    })
}

/// Writes as a store of the Core level does.
async fn set_plainly(inner: &dyn KvStore, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
    let options = SetOptions::default().with_expiry(options.expiry);
    inner.set(key, value, &options).await.map(|_| SetOutcome::Stored { version: None, previous: None })
}

#[derive(Debug)]
struct OptionsDropped {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OptionsDropped {
    delegate_store!(self.inner, except
        info get get_many set set_many delete delete_many list clear touch increment commit watch publish subscribe);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await.map(plain)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        set_plainly(&*self.inner, key, value, options).await
    }

    async fn delete(&self, key: &Key, _options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.inner.delete(key, &DeleteOptions::default()).await
    }
}

#[derive(Debug)]
struct BatchOptionsDropped {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for BatchOptionsDropped {
    delegate_store!(self.inner, except
        info get get_many set set_many delete delete_many list clear touch increment commit watch publish subscribe);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await.map(plain)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        set_plainly(&*self.inner, key, value, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for SetItem { key, value, options, .. } in items {
            outcomes.push(set_plainly(&*self.inner, key, value.clone(), options).await);
        }
        outcomes
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        self.inner.delete(key, options).await
    }
}

/// A store of the Core level that is right in what it has.
macro_rules! core_level {
    ($store:ident { $($method:item)* }) => {
        #[derive(Debug)]
        struct $store {
            info: StoreInfo,
            inner: Arc<dyn KvStore>,
        }

        #[async_trait]
        impl KvStore for $store {
            fn info(&self) -> &StoreInfo {
                &self.info
            }

            async fn get(&self, key: &Key) -> Result<Option<Entry>> {
                self.inner.get(key).await.map(plain)
            }

            async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
                options.check(&self.info.capabilities)?;
                set_plainly(&*self.inner, key, value, options).await
            }

            async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
                options.check(&self.info.capabilities)?;
                self.inner.delete(key, options).await
            }

            async fn ping(&self) -> Result<()> {
                self.inner.ping().await
            }

            async fn close(&self) -> Result<()> {
                self.inner.close().await
            }

            $($method)*
        }
    };
}

core_level! { Idle {
    async fn list(&self, _query: &ListQuery) -> Result<ListPage> {
        Ok(ListPage::default())
    }

    async fn clear(&self, _prefix: &KeyPrefix) -> Result<u64> {
        Ok(0)
    }

    async fn touch(&self, _key: &Key, _expiry: NewExpiry) -> Result<bool> {
        Ok(false)
    }

    async fn increment(&self, _key: &Key, by: i64, _options: &IncrementOptions) -> Result<i64> {
        Ok(by)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        Ok(CommitOutcome::Committed { versions: transaction.mutations.iter().map(|_| None).collect() })
    }
} }

core_level! { Silent {
    async fn watch(&self, _query: &WatchQuery) -> Result<WatchStream> {
        Ok(Box::pin(futures_util::stream::pending()))
    }

    async fn publish(&self, _channel: &Key, _message: Bytes) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _channels: &KeyPrefix) -> Result<MessageStream> {
        Ok(Box::pin(futures_util::stream::pending()))
    }
} }

core_level! { Misnaming {
    async fn touch(&self, _key: &Key, _expiry: NewExpiry) -> Result<bool> {
        Err(Error::unsupported(Capability::Deadlines))
    }
} }

/// What a store says of the one thing that it cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    VersionChecks,
    Versions,
    Snapshots,
    Deadlines,
}

/// A store that can do all but one thing.
struct Less {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
    lie: Lie,
}

impl Less {
    fn new(inner: Arc<dyn KvStore>, less: fn(&mut Capabilities), lie: Lie) -> Self {
        let mut info = inner.info().clone();
        less(&mut info.capabilities);
        Self { info, inner, lie }
    }

    fn shows_versions(&self) -> bool {
        self.info.capabilities.versions || self.lie == Lie::Versions
    }

    /// The entry as a store with these capabilities shows it, or says that it does.
    fn shown(&self, entry: Option<Entry>) -> Option<Entry> {
        entry.map(|mut entry| {
            entry.version = entry.version.filter(|_| self.shows_versions());
            if !self.info.capabilities.deadlines {
                entry.expires = Expires::Never;
            }
            entry
        })
    }
}

impl fmt::Debug for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Less").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Less {
    delegate_store!(self.inner, except info get get_many set set_many delete delete_many list clear commit watch);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.shown(self.inner.get(key).await?))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } => SetOutcome::Stored {
                version: version.filter(|_| self.shows_versions()),
                previous: self.shown(previous),
            },
            SetOutcome::Refused { current } => SetOutcome::Refused { current: self.shown(current) },
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Deleted { previous } => DeleteOutcome::Deleted { previous: self.shown(previous) },
            DeleteOutcome::Refused { current } => DeleteOutcome::Refused { current: self.shown(current) },
            DeleteOutcome::Missing => DeleteOutcome::Missing,
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let mut page = self.inner.list(query).await?;
        for item in &mut page.items {
            item.entry = self.shown(item.entry.take());
        }
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.info.capabilities.require(Capability::List)?;
        self.inner.clear(prefix).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        if self.lie == Lie::VersionChecks {
            transaction.checks.retain(|check| !matches!(check.when, When::Version(_)));
        }
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        Ok(match self.inner.commit(&transaction).await? {
            CommitOutcome::Committed { versions } if !self.shows_versions() => {
                CommitOutcome::Committed { versions: versions.into_iter().map(|_| None).collect() }
            }
            outcome => outcome,
        })
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        if self.lie != Lie::Snapshots || query.initial == Initial::None {
            query.check(&self.info.capabilities)?;
            return self.inner.watch(query).await;
        }
        let mut live = query.clone();
        live.initial = Initial::None;
        self.inner.watch(&live).await
    }
}
