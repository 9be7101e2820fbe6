//! Stores whose `close` does too little, and stores that answer wrongly after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    Entry, Error, ErrorKind, Key, KvStore, Result, SetOptions, SetOutcome, WatchQuery, WatchStream, delegate_store,
};

use super::faults;

faults! { close:
    /// Keeps working after `close`.
    does_nothing: "R-3"
        ["errors/close_closes_every_clone", "errors/close_under_load"]
        |inner, _clock| NeverCloses { inner };
    /// Returns an error from the second `close`.
    second_call_fails: "R-3"
        ["errors/close_twice", "restart/what_ended_meanwhile"]
        |inner, _clock| CloseOnce { inner, is_closed: AtomicBool::new(false) };
    /// Reports a closed store as `Unavailable`, as if a retry could succeed.
    later_calls_are_unavailable: "R-3"
        ["errors/close_closes_every_clone"]
        |inner, _clock| ClosedAsUnavailable { inner };
    /// Uses the trait's default bodies of `ping`, `flush` and `sweep`, which do not know that the store is closed.
    ping_works_afterwards: "R-3"
        ["errors/closed_after_close"]
        |inner, _clock| PingAfterClose { inner };
    /// Does not end the streams of watchers at `close`.
    watchers_keep_waiting: "R-3"
        ["watch_loss/close_ends_the_stream"]
        |inner, _clock| EndlessWatch { inner };
}

#[derive(Debug)]
struct PingAfterClose {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for PingAfterClose {
    // The omitted methods have the default bodies of the trait.
    delegate_store!(self.inner, except ping flush sweep);
}

#[derive(Debug)]
struct NeverCloses {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NeverCloses {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        self.inner.flush().await
    }
}

#[derive(Debug)]
struct CloseOnce {
    inner: Arc<dyn KvStore>,
    is_closed: AtomicBool,
}

#[async_trait]
impl KvStore for CloseOnce {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Err(Error::closed());
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct ClosedAsUnavailable {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClosedAsUnavailable {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await.map_err(as_unavailable)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(key, value, options).await.map_err(as_unavailable)
    }
}

fn as_unavailable(error: Error) -> Error {
    if error.kind() == ErrorKind::Closed { Error::unavailable("the store is not available") } else { error }
}

#[derive(Debug)]
struct EndlessWatch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EndlessWatch {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        Ok(Box::pin(self.inner.watch(query).await?.chain(stream::pending())))
    }
}
