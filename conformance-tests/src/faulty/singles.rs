//! Wrong results and effects of `get`, `set` and `delete` on one key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expiry, Key, KvStore, Result, SetOptions, SetOutcome, Version, When,
    delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { singles:
    /// Returns an empty value for a key that was never written.
    missing_is_empty: "V-1"
        ["basics/get_of_a_missing_key_is_none", "basics/set_then_get", "restart/an_empty_one"]
        |inner, _clock| EmptyForMissing { inner };
    /// Reports `Stored`, but never replaces an existing entry.
    overwrites_are_dropped: "S-1"
        ["basics/overwrite_replaces", "restart/handles_are_closed_alone", "values/the_same_under_many_keys"]
        |inner, _clock| DroppedOverwrites { inner };
    /// Drops the next write of a deleted key, because the delete left a tombstone.
    set_after_delete_is_dropped: "S-1"
        ["basics/set_after_delete", "cancel/clear", "cancel/delete", "cancel/delete_many", "cancel/watch",
         "expiry/keep_on_absent_is_never", "races/one_of_many_deleters_wins", "shared/writes_are_seen_at_once",
         "processes/writes_are_seen_at_once"]
        |inner, _clock| LastingTombstones { inner, deleted: Hidden::default() };
    /// Gives entries a default time to live of a minute, as caches do.
    default_ttl_of_a_minute: "S-1"
        ["basics/no_deadline_unless_asked", "cancel/set_with_a_deadline", "expiry/without_one_it_stays"]
        |inner, _clock| DefaultTtl { inner };
    /// Writes the entry again in every `get`, as a store does that counts reads in the entry.
    get_rewrites_the_entry: "S-3"
        ["versions/conditional_set_gives_a_new_version", "basics/reading_changes_nothing",
         "shared/entries_are_the_same", "processes/entries_are_the_same"]
        |inner, _clock| RewritingGet { inner };
    /// Returns the replaced entry although the caller did not ask for it.
    previous_is_returned_unasked: "S-2"
        ["conditions/previous_is_what_was_replaced", "basics/previous_only_when_asked",
         "conditional_deletes/present_deletes_over_live", "conditional_deletes/previous_is_what_was_deleted",
         "conditional_deletes/version_deletes_its_own", "conditional_deletes/version_is_refused_over_nothing"]
        |inner, _clock| AlwaysPrevious { inner };
    /// Returns an error for the delete of a missing key.
    delete_of_a_missing_key_fails: "D-1"
        ["basics/delete_of_a_missing_key_is_fine", "transactions/always_holds"]
        |inner, _clock| FailingDelete { inner };
    /// Reports `Deleted` even if there was no entry.
    delete_always_reports_deleted: "D-1"
        ["basics/delete_of_a_missing_key_is_fine", "basics/delete_twice", "concurrency/one_of_twenty_deletes_removes",
         "conditional_deletes/absent_is_missing_over_nothing", "random/plain_steps"]
        |inner, _clock| AlwaysDeleted { inner };
    /// Deletes the children of a key with the key, as `rm -r` does.
    delete_is_recursive: "D-1"
        ["basics/delete_is_not_recursive", "keys/dots", "keys/empty_segments", "keys/names_of_internals"]
        |inner, _clock| RecursiveDelete { inner };
    /// Does not return the replaced or deleted entry although the caller asked for it.
    previous_is_not_returned: "S-2"
        ["conditions/previous_is_what_was_replaced", "basics/delete_brings_the_previous",
         "basics/set_brings_the_previous", "batch/set_many_gives_previous",
         "conditional_deletes/previous_comes_with_a_condition", "conditional_deletes/previous_is_given_once"]
        |inner, _clock| NoPrevious { inner };
}

#[derive(Debug)]
struct EmptyForMissing {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EmptyForMissing {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(Some(self.inner.get(key).await?.unwrap_or_else(|| Entry::new(Bytes::new()))))
    }
}

#[derive(Debug)]
struct DroppedOverwrites {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DroppedOverwrites {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.when != When::Always {
            return self.inner.set(key, value, options).await;
        }
        let first = options.clone().with_when(When::Absent);
        Ok(match self.inner.set(key, value, &first).await? {
            SetOutcome::Refused { current } => {
                SetOutcome::Stored { version: current.and_then(|entry| entry.version), previous: None }
            }
            stored @ SetOutcome::Stored { .. } => stored,
        })
    }
}

#[derive(Debug)]
struct LastingTombstones {
    inner: Arc<dyn KvStore>,
    deleted: Hidden<HashSet<Key>>,
}

#[async_trait]
impl KvStore for LastingTombstones {
    delegate_store!(self.inner, except set set_many delete delete_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let was_deleted = self.deleted.lock().remove(key);
        if was_deleted {
            return Ok(SetOutcome::Stored { version: Some(Version::random()), previous: None });
        }
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        if outcome.is_deleted() {
            self.deleted.lock().insert(key.clone());
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct DefaultTtl {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DefaultTtl {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        if options.expiry == Expiry::Never {
            options.expiry = Expiry::After(Duration::from_secs(60));
        }
        self.inner.set(key, value, &options).await
    }
}

#[derive(Debug)]
struct RewritingGet {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RewritingGet {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.inner.get(key).await?;
        if let Some(Entry { value, version: Some(version), .. }) = &found {
            let same = SetOptions::default().with_when(When::Version(*version)).with_expiry(Expiry::Keep);
            let _ = self.inner.set(key, value.clone(), &same).await?;
        }
        Ok(found)
    }
}

#[derive(Debug)]
struct AlwaysPrevious {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AlwaysPrevious {
    delegate_store!(self.inner, except set set_many delete);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(key, value, &options.clone().with_previous()).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.inner.delete(key, &options.clone().with_previous()).await
    }
}

#[derive(Debug)]
struct FailingDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FailingDelete {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        match self.inner.delete(key, options).await? {
            DeleteOutcome::Missing => Err(Error::invalid("the key does not exist").with_key(key)),
            outcome => Ok(outcome),
        }
    }
}

#[derive(Debug)]
struct AlwaysDeleted {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AlwaysDeleted {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Missing => DeleteOutcome::Deleted { previous: None },
            outcome => outcome,
        })
    }
}

#[derive(Debug)]
struct RecursiveDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RecursiveDelete {
    delegate_store!(self.inner, except delete delete_many);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        if outcome.is_deleted() {
            self.inner.clear(&key.into()).await?;
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct NoPrevious {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NoPrevious {
    delegate_store!(self.inner, except set set_many delete);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        options.return_previous = false;
        self.inner.set(key, value, &options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let mut options = options.clone();
        options.return_previous = false;
        self.inner.delete(key, &options).await
    }
}
