//! Bytes that come back changed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Entry, Key, KvStore, Result, SetOptions, SetOutcome, delegate_store};

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
