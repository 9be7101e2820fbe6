//! Wrong names, limits and `ping` answers, and secrets in names, `Debug` and error texts.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Error, Key, KvStore, Operation, Result, SetOptions, SetOutcome, StoreInfo, delegate_store};

use super::faults;

faults! { info:
    /// Has an empty name.
    name_is_empty: "I-1"
        ["basics/info_is_as_declared"]
        |inner, _clock| ChangedInfo::new(inner, |info| info.name = "".into());
    /// Uses the URL that it was opened with as its name, including the password.
    name_shows_the_url: "E-3"
        ["errors/info_shows_no_url", "errors/say_what_failed"]
        |inner, _clock| ChangedInfo::new(inner, |info| info.name = "redis://user:secret@example.com:6379/0".into());
    /// Declares and enforces a limit of one mebibyte for values.
    limit_is_a_mebibyte: "V-3"
        ["values/the_declared_limit"]
        |inner, _clock| ChangedInfo::new(inner, |info| info.limits.max_value_bytes = 1 << 20);
    /// Fails `ping` with `Unavailable` although the backend works.
    ping_fails: "R-3"
        ["basics/ping_and_flush_answer"]
        |inner, _clock| FailingPing { inner };
    /// Shows the last written value in `Debug`, even if it is secret.
    debug_shows_values: "E-3"
        ["errors/the_store_shows_nothing_stored"]
        |inner, _clock| DebugWithValues { inner, last: std::sync::Mutex::default() };
    /// Puts the key into the text of an error.
    errors_show_the_key: "E-3"
        ["errors/show_no_value_and_no_key"]
        |inner, _clock| KeyInErrors { inner };
}

#[derive(Debug)]
struct ChangedInfo {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
}

impl ChangedInfo {
    fn new(inner: Arc<dyn KvStore>, change: fn(&mut StoreInfo)) -> Self {
        let mut info = inner.info().clone();
        change(&mut info);
        Self { info, inner }
    }
}

#[async_trait]
impl KvStore for ChangedInfo {
    delegate_store!(self.inner, except info set set_many);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.info.limits.check_value(value.len()).map_err(|error| error.with_key(key))?;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct FailingPing {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FailingPing {
    delegate_store!(self.inner, except ping);

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await?;
        Err(Error::unavailable("the backend does not answer"))
    }
}

#[derive(Debug)]
struct DebugWithValues {
    inner: Arc<dyn KvStore>,
    last: std::sync::Mutex<Option<(Key, Bytes)>>,
}

#[async_trait]
impl KvStore for DebugWithValues {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((key.clone(), value.clone()));
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct KeyInErrors {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for KeyInErrors {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(key, value, options).await.map_err(|error| {
            let message = format!("{} (while writing {key})", error.message());
            Error::new(error.kind(), message).with_operation(Operation::Set).with_backend("memory").with_key(key)
        })
    }
}
