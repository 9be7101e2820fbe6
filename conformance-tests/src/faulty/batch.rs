//! Batches that lose count, order or detail.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{
    DeleteOutcome, Entry, Error, ErrorKind, Expires, Key, KvStore, Result, SetItem, SetOutcome, delegate_store,
};

use super::faults;

faults! { batch:
    get_many_gives_values_alone: "G-1" "a batch of gets has values without versions and deadlines"
        ["batch/get_many_shows_whole_entries", "deadlines/in_lists_and_batches", "versions/reads_agree_on_the_version"]
        |inner, _clock| ValuesAlone { inner };
    set_many_writes_backwards: "B-1" "writes a batch from its end, so that the first of two writes of a key stands"
        ["batch/set_many_keeps_the_order", "batch/set_many_judges_in_order", "versions/set_many_gives_new_versions", "random/plain_steps"]
        |inner, _clock| Backwards { inner };
    nothing_is_an_error: "B-1" "answers an empty batch with an error, as an empty `VALUES ()` does"
        ["batch/empty_input"]
        |inner, _clock| NeverEmpty { inner };
    get_many_leaves_out_the_missing: "B-1" "a batch of gets answers only for the keys that are there, as Spin's does"
        ["batch/get_many_answers_duplicates", "batch/a_thousand_keys", "batch/get_many_answers_in_order"]
        |inner, _clock| OnlyFound { inner };
    get_many_answers_twins_once: "B-1" "a batch of gets answers a key that stands twice only once"
        ["batch/get_many_answers_duplicates"]
        |inner, _clock| Deduplicated { inner };
    set_many_stops_at_an_error: "B-1" "a batch of sets fails as a whole where one item is wrong"
        ["batch/set_many_fails_one_by_one", "errors/of_batches_say_what_failed"]
        |inner, _clock| FirstError { inner };
    delete_many_counts_the_missing: "B-1" "a batch of deletes says of every key that it was removed"
        ["batch/delete_many_answers_duplicates", "batch/delete_many_answers_each",
         "batch/delete_many_misses_the_expired"]
        |inner, _clock| ProudBatch { inner };
}

#[derive(Debug)]
struct ValuesAlone {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ValuesAlone {
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
struct Backwards {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Backwards {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let reversed: Vec<SetItem> = items.iter().rev().cloned().collect();
        let mut outcomes = self.inner.set_many(&reversed).await;
        outcomes.reverse();
        outcomes
    }
}

#[derive(Debug)]
struct NeverEmpty {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NeverEmpty {
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
        let mut once: Vec<Key> = Vec::with_capacity(keys.len());
        let mut seen = HashSet::new();
        once.extend(keys.iter().filter(|key| seen.insert(*key)).cloned());
        self.inner.get_many(&once).await
    }
}

#[derive(Debug)]
struct FirstError {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FirstError {
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
struct ProudBatch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ProudBatch {
    delegate_store!(self.inner, except delete_many);

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let outcomes = self.inner.delete_many(keys).await;
        outcomes.into_iter().map(|outcome| outcome.map(|_| DeleteOutcome::Deleted { previous: None })).collect()
    }
}
