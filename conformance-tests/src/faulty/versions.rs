//! Versions that repeat, or that differ between `set` and `get`.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Key, KvStore, ListPage, ListQuery, Mutation, Result,
    SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, WatchStream, When, delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { versions:
    /// Numbers the writes of a key as versions, and restarts at one after a delete.
    restart_after_a_delete: "S-3"
        ["versions/recreation_never_repeats_a_version", "restart/versions_never_repeat",
         "versions/old_version_does_not_fit_a_recreated_entry", "versions/version_of_another_key_is_refused",
         "versions/versions_differ_across_keys"]
        |inner, _clock| MappedVersions { inner, mapping: Arc::new(WriteNumbers::default()) };
    /// Uses the digest of the value as the version, as an ETag does.
    are_digests_of_the_value: "S-3"
        ["versions/increment_gives_a_new_version", "clear/versions_do_not_return",
         "conditional_deletes/version_is_refused_over_a_newer", "shared/versions_hold_across",
         "processes/versions_hold_across", "versions/overwrites_never_repeat_a_version",
         "versions/recreation_after_expiry_never_repeats_a_version", "versions/same_bytes_give_a_new_version",
         "random/everything"]
        |inner, _clock| MappedVersions { inner, mapping: Arc::new(ValueDigests) };
    /// Returns a version from `set` that differs from the version that `get` shows.
    set_returns_another_version: "G-1"
        ["versions/get_shows_the_version_that_set_gave", "transactions/version_is_checked",
         "versions/refused_writes_leave_the_version"]
        |inner, _clock| UnrelatedVersions { inner };
}

/// Maps the versions of the good store to the versions that callers see.
trait VersionMapping: Debug + Send + Sync + 'static {
    fn map(&self, key: &Key, version: Version, value: &Bytes) -> Version;
    /// Called after a delete of the key.
    fn forget(&self, key: &Key);
}

/// Uses the number of the write since the key was created as the version.
#[derive(Debug, Default)]
struct WriteNumbers {
    seen: Hidden<HashMap<Key, Vec<Version>>>,
}

impl VersionMapping for WriteNumbers {
    fn map(&self, key: &Key, version: Version, _value: &Bytes) -> Version {
        let mut seen = self.seen.lock();
        let versions = seen.entry(key.clone()).or_default();
        let index = versions.iter().position(|seen| *seen == version).unwrap_or_else(|| {
            versions.push(version);
            versions.len() - 1
        });
        Version::from((index as u128 + 1).to_be_bytes())
    }

    fn forget(&self, key: &Key) {
        self.seen.lock().remove(key);
    }
}

/// Uses a 128-bit hash (FNV-1a) of the value as the version.
#[derive(Debug)]
struct ValueDigests;

impl VersionMapping for ValueDigests {
    fn map(&self, _key: &Key, _version: Version, value: &Bytes) -> Version {
        let hash = value.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
        Version::from(hash.to_be_bytes())
    }

    fn forget(&self, _key: &Key) {}
}

/// Maps versions in results, and maps the versions in conditions back.
#[derive(Debug)]
struct MappedVersions<N> {
    inner: Arc<dyn KvStore>,
    mapping: Arc<N>,
}

impl<N: VersionMapping> MappedVersions<N> {
    fn mapped(mapping: &N, key: &Key, entry: Entry) -> Entry {
        match entry.version {
            Some(version) => {
                let version = mapping.map(key, version, &entry.value);
                entry.with_version(version)
            }
            None => entry,
        }
    }

    fn entry(&self, key: &Key, entry: Option<Entry>) -> Option<Entry> {
        entry.map(|entry| Self::mapped(&self.mapping, key, entry))
    }

    /// Returns the condition with the version of the good store.
    async fn when(&self, key: &Key, when: &When) -> Result<When> {
        let When::Version(wanted) = when else { return Ok(when.clone()) };
        let current = self.inner.get(key).await?;
        let known = current.as_ref().and_then(|entry| {
            let version = entry.version?;
            (self.mapping.map(key, version, &entry.value) == *wanted).then_some(version)
        });
        // No entry has a random version, so the good store refuses the condition.
        Ok(When::Version(known.unwrap_or_else(Version::random)))
    }
}

#[async_trait]
impl<N: VersionMapping> KvStore for MappedVersions<N> {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many list commit watch);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.entry(key, self.inner.get(key).await?))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let options = options.clone().with_when(self.when(key, &options.when).await?);
        Ok(match self.inner.set(key, value.clone(), &options).await? {
            SetOutcome::Stored { version, previous } => SetOutcome::Stored {
                previous: self.entry(key, previous),
                version: version.map(|version| self.mapping.map(key, version, &value)),
            },
            SetOutcome::Refused { current } => SetOutcome::Refused { current: self.entry(key, current) },
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let options = options.clone().with_when(self.when(key, &options.when).await?);
        Ok(match self.inner.delete(key, &options).await? {
            DeleteOutcome::Deleted { previous } => {
                let previous = self.entry(key, previous);
                self.mapping.forget(key);
                DeleteOutcome::Deleted { previous }
            }
            DeleteOutcome::Refused { current } => DeleteOutcome::Refused { current: self.entry(key, current) },
            DeleteOutcome::Missing => DeleteOutcome::Missing,
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        for item in &mut page.items {
            item.entry = self.entry(&item.key, item.entry.take());
        }
        Ok(page)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut mapped_transaction = transaction.clone();
        for check in &mut mapped_transaction.checks {
            check.when = self.when(&check.key, &check.when).await?;
        }
        Ok(match self.inner.commit(&mapped_transaction).await? {
            CommitOutcome::Committed { versions } => CommitOutcome::Committed {
                versions: transaction
                    .mutations
                    .iter()
                    .zip(versions)
                    .map(|(mutation, version)| match mutation {
                        Mutation::Set { key, value, .. } => Some(self.mapping.map(key, version?, value)),
                        _ => version,
                    })
                    .collect(),
            },
            refused @ CommitOutcome::Refused { .. } => refused,
        })
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mapping = Arc::clone(&self.mapping);
        Ok(Box::pin(self.inner.watch(query).await?.map(move |event| {
            Ok(match event? {
                WatchEvent::Set { entry, key } => {
                    WatchEvent::Set { entry: entry.map(|entry| Self::mapped(&mapping, &key, entry)), key }
                }
                other => other,
            })
        })))
    }
}

#[derive(Debug)]
struct UnrelatedVersions {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for UnrelatedVersions {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } => {
                SetOutcome::Stored { version: version.map(|_| Version::random()), previous }
            }
            refused @ SetOutcome::Refused { .. } => refused,
        })
    }
}
