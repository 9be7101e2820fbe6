//! Stores that say wrong things of themselves, or more than they should.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Error, Key, KvStore, Operation, Result, SetOptions, SetOutcome, StoreInfo, delegate_store};

use super::faults;

faults! { info:
    has_no_name: "I-1" "has no name"
        ["basics/info_is_as_declared"]
        |inner, _clock| Claiming::new(inner, |info| info.name = "".into());
    name_shows_the_url: "E-3" "takes the URL that it was opened with for its name, password and all"
        ["errors/info_shows_no_url", "errors/say_what_failed"]
        |inner, _clock| Claiming::new(inner, |info| info.name = "redis://user:secret@example.com:6379/0".into());
    takes_a_mebibyte_only: "V-3" "takes values of a mebibyte at most, and says so"
        ["values/the_declared_limit"]
        |inner, _clock| Claiming::new(inner, |info| info.limits.max_value_bytes = 1 << 20);
    ping_fails: "R-3" "says that it is unavailable, and works"
        ["basics/ping_and_flush_answer"]
        |inner, _clock| NoPing { inner };
    debug_shows_values: "E-3" "its `Debug` shows what was written last, secret or not"
        ["errors/the_store_shows_nothing_stored"]
        |inner, _clock| Talkative { inner, last: std::sync::Mutex::default() };
    errors_show_the_key: "E-3" "puts the key into the text of an error"
        ["errors/show_no_value_and_no_key"]
        |inner, _clock| Telling { inner };
}

#[derive(Debug)]
struct Claiming {
    info: StoreInfo,
    inner: Arc<dyn KvStore>,
}

impl Claiming {
    fn new(inner: Arc<dyn KvStore>, claim: fn(&mut StoreInfo)) -> Self {
        let mut info = inner.info().clone();
        claim(&mut info);
        Self { info, inner }
    }
}

#[async_trait]
impl KvStore for Claiming {
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
struct NoPing {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NoPing {
    delegate_store!(self.inner, except ping);

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await?;
        Err(Error::unavailable("the backend does not answer"))
    }
}

#[derive(Debug)]
struct Talkative {
    inner: Arc<dyn KvStore>,
    last: std::sync::Mutex<Option<(Key, Bytes)>>,
}

#[async_trait]
impl KvStore for Talkative {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((key.clone(), value.clone()));
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
