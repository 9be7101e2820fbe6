//! Values that are changed by a write or a read.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Entry, Key, KvStore, Result, SetOptions, SetOutcome, delegate_store};

use super::faults;

faults! { values:
    /// Reports a key with an empty value as missing, as unstorage does.
    empty_is_missing: "V-1"
        ["values/empty_is_not_absent", "basics/contains_agrees_with_get", "basics/each_write_has_a_version",
         "batch/set_many_stores_all", "conditions/absent_is_refused_over_an_empty_value"]
        |inner, _clock| ChangedOnRead { inner, read: |entry| Some(entry).filter(|entry| !entry.value.is_empty()) };
    /// Reports a key whose value is the JSON text `null` as missing.
    null_is_missing: "V-1"
        ["values/text_is_not_interpreted"]
        |inner, _clock| ChangedOnRead { inner, read: |entry| Some(entry).filter(|entry| entry.value != "null") };
    /// Treats values as C strings, which end at NUL.
    nul_ends_a_value: "V-1"
        ["values/nul_does_not_end_it", "batch/megabytes_at_once", "conditions/values_of_any_bytes_are_compared",
         "touch/the_value_stays"]
        |inner, _clock| ChangedOnWrite { inner, write: |value| {
            value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
        } };
    /// Stores values as text, and replaces invalid UTF-8.
    invalid_utf8_is_replaced: "V-1"
        ["values/invalid_utf8", "values/a_shorter_one_leaves_no_tail", "values/random_bytes", "values/sizes",
         "values/what_was_read_stays"]
        |inner, _clock| ChangedOnWrite { inner, write: |value| {
            String::from_utf8_lossy(value).into_owned().into_bytes()
        } };
    /// Trims white space at the end of a value.
    trailing_white_space_is_trimmed: "V-1"
        ["values/nothing_is_trimmed", "conditional_deletes/value_deletes_the_same", "values/every_byte"]
        |inner, _clock| ChangedOnWrite { inner, write: |value| value.trim_ascii_end().to_vec() };
    /// Truncates a value at a mebibyte, and reports `Stored`.
    truncated_at_a_mebibyte: "V-3"
        ["values/eight_mebibytes", "values/at_the_limit", "restart/large_values_survive"]
        |inner, _clock| ChangedOnWrite { inner, write: |value| value.iter().take(1 << 20).copied().collect() };
    /// Truncates a value at the limit instead of refusing it.
    truncated_at_the_limit: "V-3"
        ["values/over_the_limit_is_refused", "values/over_the_limit_in_a_batch", "errors/after_errors_it_works"]
        |inner, _clock| TruncatedAtLimit { inner };
}

/// Changes values on read.
struct ChangedOnRead {
    inner: Arc<dyn KvStore>,
    read: fn(Entry) -> Option<Entry>,
}

impl fmt::Debug for ChangedOnRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedOnRead").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedOnRead {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await?.and_then(self.read))
    }
}

/// Changes values on write.
struct ChangedOnWrite {
    inner: Arc<dyn KvStore>,
    write: fn(&[u8]) -> Vec<u8>,
}

impl fmt::Debug for ChangedOnWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedOnWrite").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedOnWrite {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        // The good store must still refuse a value over the limit.
        let value =
            if self.info().limits.check_value(value.len()).is_ok() { (self.write)(&value).into() } else { value };
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct TruncatedAtLimit {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TruncatedAtLimit {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, mut value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        value.truncate(self.info().limits.max_value_bytes);
        self.inner.set(key, value, options).await
    }
}
