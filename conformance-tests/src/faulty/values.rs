//! Bytes that come back changed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Entry, Key, KvStore, Result, SetOptions, SetOutcome, delegate_store};

use super::faults;

faults! { values:
    empty_is_missing: "V-1" "takes an empty value for none, as unstorage does"
        ["values/empty_is_not_absent", "basics/contains_agrees_with_get", "basics/each_write_has_a_version",
         "batch/set_many_stores_all", "conditions/absent_is_refused_over_an_empty_value"]
        |inner, _clock| Read { inner, read: |entry| Some(entry).filter(|entry| !entry.value.is_empty()) };
    null_is_missing: "V-1" "takes the JSON text `null` for none"
        ["values/text_is_not_interpreted"]
        |inner, _clock| Read { inner, read: |entry| Some(entry).filter(|entry| entry.value != "null") };
    nul_ends_a_value: "V-1" "takes values for C strings, which end at NUL"
        ["values/nul_does_not_end_it", "batch/megabytes_at_once", "conditions/values_of_any_bytes_are_compared",
         "touch/the_value_stays"]
        |inner, _clock| Written { inner, write: |value| value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec() };
    values_are_text: "V-1" "stores text, and replaces what is not UTF-8"
        ["values/invalid_utf8", "values/a_shorter_one_leaves_no_tail", "values/random_bytes", "values/sizes",
         "values/what_was_read_stays"]
        |inner, _clock| Written { inner, write: |value| String::from_utf8_lossy(value).into_owned().into_bytes() };
    line_ends_are_trimmed: "V-1" "trims white space at the end of a value"
        ["values/nothing_is_trimmed", "conditional_deletes/value_deletes_the_same", "values/every_byte"]
        |inner, _clock| Written { inner, write: |value| value.trim_ascii_end().to_vec() };
    ends_at_a_mebibyte: "V-3" "cuts a value off at a mebibyte and says that it was stored"
        ["values/eight_mebibytes", "values/at_the_limit", "restart/large_values_survive"]
        |inner, _clock| Written { inner, write: |value| value.iter().take(1 << 20).copied().collect() };
    too_large_is_stored_cut: "V-3" "cuts a value off at the limit instead of refusing it"
        ["values/over_the_limit_is_refused", "values/over_the_limit_in_a_batch", "errors/after_errors_it_works"]
        |inner, _clock| CutAtLimit { inner };
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
