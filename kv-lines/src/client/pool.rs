//! The connection pool. Each running call has its own connection.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use kv_core::{Error, Key, Operation, Result, SetItem, StoreInfo, When};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use super::connection::Connection;
use super::endpoint::{Endpoint, ExchangeError, line};
use super::response::{self, OVERHEAD_BYTES, Response};
use crate::line::MAX_LINE_BYTES;
use crate::request::Request;
use crate::shape::{Batch, Info, Value};

/// The maximum number of calls that run at once. Further calls wait.
const MAX_CALLS: usize = 64;
/// The maximum number of bytes of the items in one request of a batch. The rest of the line is for `op` and the other
/// fields of the request.
const BATCH_BYTES: usize = MAX_LINE_BYTES - 1_024;

/// The maximum number of bytes of an item of a batch without its key, its value and the value of its condition.
const ITEM_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Pool {
    info: StoreInfo,
    endpoint: Endpoint,
    /// The connection that read `info`. This connection stays open until the handle is closed, because
    /// [`serve`](crate::serve) ends when its first connection closes.
    first_connection: Mutex<Option<Connection>>,
    idle: Mutex<VecDeque<Connection>>,
    permits: Semaphore,
    is_closed: watch::Sender<bool>,
}

/// The kind of a call. The kind determines the error that the caller gets if no response arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Read,
    Write,
    /// A write without a timeout.
    LongWrite,
}

impl CallKind {
    /// Creates the error for a response that cannot be decoded: `Corrupt` for a read, and `Indeterminate` for a write,
    /// because the write may have been applied.
    fn decode_error(self, error: &Error) -> Error {
        let message = format!("cannot decode the response of the server: {}", error.message());
        if self == Self::Read { Error::corrupt(message) } else { Error::indeterminate(None, message) }
    }
}

impl Pool {
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self> {
        let mut first_connection = endpoint.connect().await?;
        let request = line(&Request::Info {})?;
        let response = endpoint.with_timeout(async {
            first_connection.send(&request).await?;
            first_connection.receive(OVERHEAD_BYTES).await.map(<[u8]>::to_vec)
        });
        let response = response.await.map_err(|error| error.into_error(false))?;
        let info: Info = response::read::<Response<Info>>(&response)?.into_result()?;
        Ok(Self {
            info: info.into(),
            endpoint,
            first_connection: Mutex::new(Some(first_connection)),
            idle: Mutex::default(),
            permits: Semaphore::new(MAX_CALLS),
            is_closed: watch::Sender::new(false),
        })
    }

    pub(super) fn info(&self) -> &StoreInfo {
        &self.info
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Completes when the handle is closed or its last clone is dropped.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut is_closed = self.is_closed.subscribe();
        async move {
            let _ = is_closed.wait_for(|is_closed| *is_closed).await;
        }
    }

    /// Flushes the store and closes the handle.
    pub(super) async fn close(&self) -> Result<()> {
        if self.check_open().is_err() {
            return Ok(());
        }
        let flushed = self.exchange(CallKind::LongWrite, &Request::Flush {}).await;
        self.is_closed.send_replace(true);
        drop(self.first_connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        flushed
    }

    /// Fails with `Closed` after `close`.
    pub(super) fn check_open(&self) -> Result<()> {
        if *self.is_closed.borrow() { Err(Error::closed()) } else { Ok(()) }
    }

    /// Sends a request and receives its response. Does not reuse the connection of a failed or dropped call, because
    /// the late response to that call would be mistaken for the response to the next call.
    async fn exchange<T: DeserializeOwned>(&self, kind: CallKind, request: &Request) -> Result<T> {
        let max_bytes = self.max_response_bytes(request);
        let request = line(request)?;
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.map_err(|_| Error::closed())?;
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.endpoint.connect().await?,
        };
        let work = async {
            connection.send(&request).await?;
            connection.receive(max_bytes).await.map(response::read::<Response<T>>)
        };
        let response = match kind {
            CallKind::LongWrite => work.await.map_err(ExchangeError::Connection),
            CallKind::Read | CallKind::Write => self.endpoint.with_timeout(work).await,
        };
        let response = response.map_err(|error| error.into_error(kind != CallKind::Read))?;
        let response = response.map_err(|error| kind.decode_error(&error))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_front(connection);
        response.into_result()
    }

    /// Returns the maximum number of bytes of the response to a request. Without a maximum, a server could exhaust the
    /// memory of the client.
    fn max_response_bytes(&self, request: &Request) -> usize {
        match request {
            Request::Get { .. } | Request::Set(_) | Request::Delete(_) => {
                response::max_bytes(self.info.limits.max_value_bytes)
            }
            Request::GetMany { .. } | Request::SetMany { .. } | Request::DeleteMany { .. } | Request::List(_) => {
                response::MAX_BYTES
            }
            // The response has one version in hex for each mutation.
            Request::Commit(commit) => OVERHEAD_BYTES + 64 * commit.mutations(),
            _ => OVERHEAD_BYTES,
        }
    }

    /// Takes an idle connection of an earlier call. Drops idle connections that the server has closed.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop_front()).find_map(|mut connection| connection.is_idle().then_some(connection))
    }

    /// Runs a call. Adds the backend, the operation and the key to the error of the call.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        kind: CallKind,
        request: Result<Request>,
    ) -> Result<T> {
        let result = async {
            self.check_open()?;
            self.exchange(kind, &request?).await
        };
        result.await.map_err(|error| self.with_context(error, operation, key))
    }

    /// Turns a decoding error into the error of the call, with the backend, the operation and the key.
    pub(super) fn decoded<T>(
        &self,
        result: Result<T>,
        operation: Operation,
        key: Option<&Key>,
        kind: CallKind,
    ) -> Result<T> {
        result.map_err(|error| self.with_context(kind.decode_error(&error), operation, key))
    }

    /// Adds the backend, the operation and the key to an error.
    pub(super) fn with_context(&self, error: Error, operation: Operation, key: Option<&Key>) -> Error {
        let error = error.with_operation(operation).with_backend(self.info.name.clone());
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }

    /// Sends a batch in as many requests as its size requires. Returns one result for each item, in order.
    pub(super) async fn batch<I, T: DeserializeOwned, O>(
        &self,
        operation: Operation,
        kind: CallKind,
        items: &[I],
        request: impl Fn(&[I]) -> Result<Request> + Send + Sync,
        decode: impl Fn(T) -> Result<O> + Send + Sync,
    ) -> Vec<Result<O>>
    where
        I: BatchItem,
        O: Send,
    {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |item: &&I| {
                bytes += item.bytes();
                bytes <= BATCH_BYTES
            };
            let count = rest.iter().take(Batch::<I>::MAX).take_while(fits).count();
            let (part, later) = rest.split_at(count.max(1));
            rest = later;
            let responses: Result<Vec<Response<T>>> = self.call(operation, None, kind, request(part)).await;
            match responses {
                Ok(responses) if responses.len() == part.len() => {
                    outcomes.extend(part.iter().zip(responses).map(|(item, response)| {
                        let outcome = response
                            .into_result()
                            .and_then(|result| decode(result).map_err(|error| kind.decode_error(&error)));
                        outcome.map_err(|error| self.with_context(error, operation, Some(item.key())))
                    }));
                }
                other => {
                    let error = other.map_or_else(|error| error, |_| wrong_count());
                    outcomes.extend(part.iter().map(|item| {
                        let error = Error::new(error.kind(), error.message().to_owned());
                        Err(self.with_context(error, operation, Some(item.key())))
                    }));
                }
            }
        }
        outcomes
    }
}

/// An item of a batch.
pub(super) trait BatchItem: Sync {
    fn key(&self) -> &Key;
    /// Returns the maximum number of bytes of the item in the line of a request.
    fn bytes(&self) -> usize;
}

impl BatchItem for Key {
    fn key(&self) -> &Key {
        self
    }

    fn bytes(&self) -> usize {
        // An empty segment takes one byte of the key and three bytes of the line. No other byte takes more.
        self.as_str().len() * 3 + 8
    }
}

impl BatchItem for SetItem {
    fn key(&self) -> &Key {
        &self.key
    }

    fn bytes(&self) -> usize {
        let condition = match &self.options.when {
            When::Value(value) => Value::compact_bytes(value.len()),
            _ => 0,
        };
        self.key.bytes() + Value::compact_bytes(self.value.len()) + condition + ITEM_BYTES
    }
}

/// Creates the error for a response to a batch that has a different number of elements than the request.
fn wrong_count() -> Error {
    Error::defect("the response to a batch has a different number of elements than the request")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kv_core::{Expiry, SetOptions, Version};

    use super::*;
    use crate::request::SetRequest;
    use crate::shape::Segments;

    #[test]
    fn no_item_of_a_batch_is_longer_than_its_announced_bytes() {
        let empty = vec![""; 2_000];
        let segments = [
            &["k"][..],
            empty.as_slice(),
            &["\u{1}\u{1f}\"\\$#\u{7f}\u{9b}\u{202e}", "é🦀", ""],
            &["\\\\"],
            &["\""; 300],
        ];
        let values = [&b""[..], b"x", b"text \"", &[1; 3_001], "\u{9b}".as_bytes()];
        for segments in segments {
            let key = Key::new(segments).unwrap();
            let line = serde_json::to_string(&Segments::from(&key)).unwrap();
            assert!(line.len() < key.bytes(), "{line}: {}", key.bytes());
            for value in values {
                for when in [When::Present, When::Version(Version::random()), When::Value(value.to_vec().into())] {
                    let mut options = SetOptions::default().with_when(when).with_previous();
                    options.expiry = Expiry::After(Duration::from_nanos(u64::MAX));
                    let item = SetItem::new(key.clone(), value.to_vec()).with_options(options);
                    let request = SetRequest::new(&item.key, &item.value, &item.options).unwrap();
                    let line = serde_json::to_string(&request).unwrap();
                    assert!(line.len() < item.bytes(), "{line}: {}", item.bytes());
                }
            }
        }
    }
}
