//! Stores that answer a call that they do not support, instead of refusing it with `Unsupported`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Capabilities, Capability, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires,
    IncrementOptions, Initial, Key, KeyPrefix, KvStore, List, ListPage, ListQuery, MessageStream, NewExpiry,
    Registration, Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream,
    WatchTarget, When, delegate_store,
};

use super::faults;

faults! { refuses:
    /// Declares no conditions, and ignores the conditions of a write.
    options_are_dropped: "I-2"
        ["refuses/conditions_on_delete", "refuses/conditions_on_set", "refuses/previous_on_delete",
         "refuses/previous_on_set"]
        |inner, _clock| OptionsDropped { info: core_info(&inner), inner };
    /// Refuses the condition of a single set, but ignores the conditions of a batch.
    batch_options_are_dropped: "I-2"
        ["refuses/conditions_in_set_many", "refuses/previous_in_set_many", "refuses/versions_in_conditions"]
        |inner, _clock| BatchOptionsDropped { info: core_info(&inner), inner };
    /// Answers unsupported operations as if there were nothing to do.
    operations_do_nothing: "I-2"
        ["refuses/commit", "refuses/clear", "refuses/increment", "refuses/list"]
        |inner, _clock| DoesNothing { info: core_info(&inner), inner };
    /// Returns streams without any events although it supports no streams.
    unsupported_streams_stay_silent: "I-2"
        ["refuses/publish", "refuses/sinks", "refuses/subscribe", "refuses/watch"]
        |inner, _clock| SilentStreams { info: core_info(&inner), inner };
    /// Names the wrong capability in its `Unsupported` error.
    error_names_another_capability: "I-2"
        ["refuses/touch"]
        |inner, _clock| WrongCapability { info: core_info(&inner), inner };
    /// Declares no versions, and lets every version check of a transaction pass.
    version_checks_pass: "I-2"
        ["refuses/versions_in_checks"]
        |inner, _clock| MissingCapability::new(inner, |all| all.versions = false, Defect::PassesVersionChecks);
    /// Declares no versions, but returns some.
    undeclared_versions_are_returned: "S-3"
        ["errors/no_versions_are_made_up", "atomicity/transfers_keep_the_sum"]
        |inner, _clock| MissingCapability::new(inner, |all| all.versions = false, Defect::ReturnsVersions);
    /// Declares no `list`, and gives watchers an empty snapshot instead of an error.
    snapshots_are_empty: "I-2"
        ["refuses/snapshot_of_a_prefix"]
        |inner, _clock| MissingCapability::new(inner, |all| all.list = List::None, Defect::EmptySnapshots);
    /// Cannot read deadlines back, and reports that no entry has a deadline.
    unreadable_deadlines_read_as_never: "T-4"
        ["refuses/deadlines_are_not_made_up"]
        |inner, _clock| MissingCapability::new(inner, |all| all.deadlines = false, Defect::NeverForUnknown);
    /// Declares no deadlines, and shows the same made-up deadline for every entry.
    deadlines_are_made_up: "T-4"
        ["moments/no_deadlines_are_made_up"]
        |inner, _clock| MissingCapability::new(inner, |all| all.deadlines = false, Defect::MakesUpDeadlines);
}

fn core_info(inner: &Arc<dyn KvStore>) -> StoreInfo {
    let mut info = inner.info().clone();
    info.capabilities = Capabilities::CORE;
    info
}

/// Removes everything from the entry that a store of the Core level cannot return.
fn core_entry(entry: Option<Entry>) -> Option<Entry> {
    entry.map(|mut entry| {
        entry.version = None;
        entry.expires = Expires::Unknown;
        entry
    })
}

/// Writes as a store of the Core level does, and ignores all options but the expiry.
async fn core_set(inner: &dyn KvStore, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
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
        self.inner.get(key).await.map(core_entry)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        core_set(&*self.inner, key, value, options).await
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
        self.inner.get(key).await.map(core_entry)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        core_set(&*self.inner, key, value, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for SetItem { key, value, options, .. } in items {
            outcomes.push(core_set(&*self.inner, key, value.clone(), options).await);
        }
        outcomes
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        self.inner.delete(key, options).await
    }
}

/// Declares a store of the Core level. Its mandatory operations are correct, and the given methods have the defect.
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
                self.inner.get(key).await.map(core_entry)
            }

            async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
                options.check(&self.info.capabilities)?;
                core_set(&*self.inner, key, value, options).await
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

core_level! { DoesNothing {
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

core_level! { SilentStreams {
    async fn watch(&self, _query: &WatchQuery) -> Result<WatchStream> {
        Ok(Box::pin(futures_util::stream::pending()))
    }

    async fn watch_into(&self, _target: &WatchTarget, _sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        Ok(Registration::new(()))
    }

    async fn publish(&self, _channel: &Key, _message: Bytes) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _channels: &KeyPrefix) -> Result<MessageStream> {
        Ok(Box::pin(futures_util::stream::pending()))
    }
} }

core_level! { WrongCapability {
    async fn touch(&self, _key: &Key, _expiry: NewExpiry) -> Result<bool> {
        Err(Error::unsupported(Capability::Deadlines))
    }
} }

/// The wrong behaviour of a store that does not declare a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    PassesVersionChecks,
    ReturnsVersions,
    EmptySnapshots,
    NeverForUnknown,
    MakesUpDeadlines,
}

/// The deadline that a store without deadlines makes up: the start of the year 2100, UTC.
const MADE_UP: Duration = Duration::from_secs(4_102_444_800);

/// A store that does not declare one of the capabilities of the good store.
struct MissingCapability {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
    defect: Defect,
}

impl MissingCapability {
    fn new(inner: Arc<dyn KvStore>, remove: fn(&mut Capabilities), defect: Defect) -> Self {
        let mut info = inner.info().clone();
        remove(&mut info.capabilities);
        Self { info, inner, defect }
    }

    fn returns_versions(&self) -> bool {
        self.info.capabilities.versions || self.defect == Defect::ReturnsVersions
    }

    /// Removes the version unless the store returns versions. Replaces the deadline by `Never` if the store declares no
    /// deadlines.
    fn altered(&self, entry: Option<Entry>) -> Option<Entry> {
        entry.map(|mut entry| {
            entry.version = entry.version.filter(|_| self.returns_versions());
            if !self.info.capabilities.deadlines {
                entry.expires = match self.defect {
                    Defect::MakesUpDeadlines => Expires::At(SystemTime::UNIX_EPOCH + MADE_UP),
                    _ => Expires::Never,
                };
            }
            entry
        })
    }
}

impl fmt::Debug for MissingCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MissingCapability").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for MissingCapability {
    delegate_store!(self.inner, except info get get_many set set_many delete delete_many list clear commit watch);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.altered(self.inner.get(key).await?))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } => SetOutcome::Stored {
                version: version.filter(|_| self.returns_versions()),
                previous: self.altered(previous),
            },
            SetOutcome::Refused { current } => SetOutcome::Refused { current: self.altered(current) },
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Deleted { previous } => DeleteOutcome::Deleted { previous: self.altered(previous) },
            DeleteOutcome::Refused { current } => DeleteOutcome::Refused { current: self.altered(current) },
            DeleteOutcome::Missing => DeleteOutcome::Missing,
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let mut page = self.inner.list(query).await?;
        for item in &mut page.items {
            item.entry = self.altered(item.entry.take());
        }
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.info.capabilities.require(Capability::List)?;
        self.inner.clear(prefix).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        if self.defect == Defect::PassesVersionChecks {
            transaction.checks.retain(|check| !matches!(check.when, When::Version(_)));
        }
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        Ok(match self.inner.commit(&transaction).await? {
            CommitOutcome::Committed { versions } if !self.returns_versions() => {
                CommitOutcome::Committed { versions: versions.into_iter().map(|_| None).collect() }
            }
            outcome => outcome,
        })
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        if self.defect != Defect::EmptySnapshots || query.initial == Initial::None {
            query.check(&self.info.capabilities)?;
            return self.inner.watch(query).await;
        }
        let mut live = query.clone();
        live.initial = Initial::None;
        self.inner.watch(&live).await
    }
}
