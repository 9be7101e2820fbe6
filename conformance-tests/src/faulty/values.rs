//! Bytes that come back changed, single keys that answer wrongly, and batches that lose count.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, Key, KvStore, Operation, Result, SetItem, SetOptions, SetOutcome,
    delegate_store,
};

use super::faults;

faults! { values:
    empty_is_missing: "V-1" "takes an empty value for none, as unstorage does" []
        |inner, _clock| Read { inner, read: |entry| Some(entry).filter(|entry| !entry.value.is_empty()) };
    null_is_missing: "V-1" "takes the JSON text `null` for none" []
        |inner, _clock| Read { inner, read: |entry| Some(entry).filter(|entry| entry.value != "null") };
    nul_ends_a_value: "V-1" "takes values for C strings, which end at NUL" []
        |inner, _clock| Written { inner, write: |value| value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec() };
    values_are_text: "V-1" "stores text, and replaces what is not UTF-8" []
        |inner, _clock| Written { inner, write: |value| String::from_utf8_lossy(value).into_owned().into_bytes() };
    line_ends_are_trimmed: "V-1" "trims white space at the end of a value" []
        |inner, _clock| Written { inner, write: |value| value.trim_ascii_end().to_vec() };
    ends_at_a_mebibyte: "V-3" "cuts a value off at a mebibyte and says that it was stored" []
        |inner, _clock| Written { inner, write: |value| value.iter().take(1 << 20).copied().collect() };
    too_large_is_stored_cut: "V-3" "cuts a value off at the limit instead of refusing it" []
        |inner, _clock| CutAtLimit { inner };
    delete_of_nothing_fails: "D-1" "deleting a key that is not there is an error" []
        |inner, _clock| StrictDelete { inner };
    delete_is_always_true: "D-1" "says that it removed something, whatever was there" []
        |inner, _clock| ProudDelete { inner };
    delete_is_recursive: "D-1" "deletes the children of a key with it, as `rm -r` does" []
        |inner, _clock| RecursiveDelete { inner };
    previous_is_forgotten: "S-2" "does not give the entry that was replaced or removed, though asked to" []
        |inner, _clock| NoPrevious { inner };
    debug_shows_values: "E-3" "its `Debug` shows what was written last, secret or not" []
        |inner, _clock| Talkative { inner, last: Mutex::default() };
    errors_show_the_key: "E-3" "puts the key into the text of an error" []
        |inner, _clock| Telling { inner };
    get_many_leaves_out_the_missing: "B-1" "a batch of gets answers only for the keys that are there, as Spin's does" []
        |inner, _clock| OnlyFound { inner };
    get_many_answers_twins_once: "B-1" "a batch of gets answers a key that stands twice only once" []
        |inner, _clock| Deduplicated { inner };
    set_many_stops_at_an_error: "B-1" "a batch of sets fails as a whole where one item is wrong" []
        |inner, _clock| FirstError { inner };
    delete_many_counts_the_missing: "B-1" "a batch of deletes says of every key that it was removed" []
        |inner, _clock| ProudBatch { inner };
}

/// Changes what is read.
struct Read {
    inner: Arc<dyn KvStore>,
    read: fn(Entry) -> Option<Entry>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Read {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await?.and_then(self.read))
    }
}

/// Changes what is written.
struct Written {
    inner: Arc<dyn KvStore>,
    write: fn(&[u8]) -> Vec<u8>,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Written {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        // What is over the limit is refused as ever.
        let value =
            if self.info().limits.check_value(value.len()).is_ok() { (self.write)(&value).into() } else { value };
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct CutAtLimit {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for CutAtLimit {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, mut value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        value.truncate(self.info().limits.max_value_bytes);
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct StrictDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for StrictDelete {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        match self.inner.delete(key, options).await? {
            DeleteOutcome::Missing => Err(Error::invalid("there is no such key").with_key(key)),
            outcome => Ok(outcome),
        }
    }
}

#[derive(Debug)]
struct ProudDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ProudDelete {
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
        let mut seen = std::collections::HashSet::new();
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

#[derive(Debug)]
struct Talkative {
    inner: Arc<dyn KvStore>,
    last: Mutex<Option<(Key, Bytes)>>,
}

#[async_trait]
impl KvStore for Talkative {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.clone(), value.clone()));
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct Telling {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Telling {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(key, value, options).await.map_err(|error| {
            let message = format!("{} (while writing {key})", error.message());
            Error::new(error.kind(), message).with_operation(Operation::Set).with_backend("memory").with_key(key)
        })
    }
}
