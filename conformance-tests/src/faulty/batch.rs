//! Batches whose results have the wrong number, order or content.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{
    DeleteOutcome, Entry, Error, ErrorKind, Expires, Key, KvStore, Result, SetItem, SetOutcome, delegate_store,
};

use super::faults;

faults! { batch:
    /// Returns values without versions and deadlines from `get_many`.
    get_many_omits_versions_and_deadlines: "G-1"
        ["batch/get_many_shows_whole_entries", "deadlines/in_lists_and_batches", "versions/reads_agree_on_the_version"]
        |inner, _clock| ValuesOnly { inner };
    /// Writes the items of a batch in reverse order, so the first of two writes of a key wins.
    set_many_runs_in_reverse: "B-1"
        ["batch/set_many_keeps_the_order", "batch/set_many_judges_in_order", "versions/set_many_gives_new_versions",
         "random/plain_steps"]
        |inner, _clock| Reversed { inner };
    /// Returns an error for an empty batch, as a database does for an empty `VALUES ()`.
    empty_batches_fail: "B-1"
        ["batch/empty_input"]
        |inner, _clock| EmptyBatchFails { inner };
    /// Returns results of existing keys only from `get_many`, as the key-value API of Fermyon Spin does.
    get_many_omits_missing_keys: "B-1"
        ["batch/get_many_answers_duplicates", "batch/a_thousand_keys", "batch/get_many_answers_in_order"]
        |inner, _clock| OnlyFound { inner };
    /// Returns one result from `get_many` for a key that is listed twice.
    get_many_omits_duplicates: "B-1"
        ["batch/get_many_answers_duplicates"]
        |inner, _clock| Deduplicated { inner };
    /// Fails every item of a `set_many` if one of them is invalid.
    set_many_fails_as_a_whole: "B-1"
        ["batch/set_many_fails_one_by_one", "errors/of_batches_say_what_failed"]
        |inner, _clock| FailsAsAWhole { inner };
    /// Reports every key of a `delete_many` as deleted.
    delete_many_reports_missing_keys_as_deleted: "B-1"
        ["batch/delete_many_answers_duplicates", "batch/delete_many_answers_each",
         "batch/delete_many_misses_the_expired"]
        |inner, _clock| AlwaysDeleted { inner };
}

#[derive(Debug)]
struct ValuesOnly {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ValuesOnly {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut answers = self.inner.get_many(keys).await;
        for entry in answers.iter_mut().filter_map(|answer| answer.as_mut().ok()?.as_mut()) {
            entry.version = None;
            entry.expires = Expires::Unknown;
        }
        answers
    }
}

#[derive(Debug)]
struct Reversed {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Reversed {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let reversed: Vec<SetItem> = items.iter().rev().cloned().collect();
        let mut outcomes = self.inner.set_many(&reversed).await;
        outcomes.reverse();
        outcomes
    }
}

#[derive(Debug)]
struct EmptyBatchFails {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EmptyBatchFails {
    delegate_store!(self.inner, except get_many set_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if keys.is_empty() {
            return vec![Err(Error::invalid("there is nothing to read"))];
        }
        self.inner.get_many(keys).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        if items.is_empty() {
            return vec![Err(Error::invalid("there is nothing to write"))];
        }
        self.inner.set_many(items).await
    }
}

#[derive(Debug)]
struct OnlyFound {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OnlyFound {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut answers = self.inner.get_many(keys).await;
        answers.retain(|answer| !matches!(answer, Ok(None)));
        answers
    }
}

#[derive(Debug)]
struct Deduplicated {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Deduplicated {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut unique: Vec<Key> = Vec::with_capacity(keys.len());
        let mut seen = HashSet::new();
        unique.extend(keys.iter().filter(|key| seen.insert(*key)).cloned());
        self.inner.get_many(&unique).await
    }
}

#[derive(Debug)]
struct FailsAsAWhole {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FailsAsAWhole {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let limits = self.info().limits;
        if items.iter().all(|item| limits.check_value(item.value.len()).is_ok()) {
            return self.inner.set_many(items).await;
        }
        items.iter().map(|_| Err(Error::new(ErrorKind::Invalid, "an item of the batch is invalid"))).collect()
    }
}

#[derive(Debug)]
struct AlwaysDeleted {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AlwaysDeleted {
    delegate_store!(self.inner, except delete_many);

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let outcomes = self.inner.delete_many(keys).await;
        outcomes.into_iter().map(|outcome| outcome.map(|_| DeleteOutcome::Deleted { previous: None })).collect()
    }
}
