//! The store: each method sends one request.

use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kv_core::{
    Bytes, Capability, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, GetOptions,
    GetOutcome, IncrementOptions, Initial, Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, Moment,
    NewExpiry, Operation, Registration, Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery,
    WatchStream, WatchTarget,
};

use super::endpoint::Endpoint;
use super::pool::{CallKind, Pool};
use super::response;
use super::stream;
use crate::request::{
    CommitRequest, DeleteRequest, ExpiryText, IncrementRequest, ListRequest, PublishRequest, Request, SetRequest,
    WatchRequest,
};
use crate::shape::{Commit, Delete, Page, Segments, Set, decode_entry};

/// A store that another process serves by the protocol of this crate. The client has the capabilities and limits of the
/// served store.
///
/// Clones share one handle. `close` on any clone closes the handle for all clones. Dropping the last clone closes the
/// handle, too. The served store stays open. Each running call and each stream has its own connection.
#[derive(Debug, Clone)]
pub struct LinesStore {
    pool: Arc<Pool>,
}

impl LinesStore {
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self> {
        Ok(Self { pool: Arc::new(Pool::connect(endpoint).await?) })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl KvStore for LinesStore {
    fn info(&self) -> &StoreInfo {
        self.pool.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found =
            self.pool.call(Operation::Get, Some(key), CallKind::Read, Ok(Request::Get { key: key.into() })).await?;
        self.pool.decoded(decode_entry(found), Operation::Get, Some(key), CallKind::Read)
    }

    // The whole entry is sent, also if the caller has its version.
    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        let checked = options.check(&self.pool.info().capabilities);
        checked.map_err(|error| self.pool.with_context(error, Operation::Get, Some(key)))?;
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    async fn time(&self) -> Result<SystemTime> {
        let sent_at = Moment::now();
        let millis: u64 = self.pool.call(Operation::Time, None, CallKind::Read, Ok(Request::Time {})).await?;
        // The server read its clock after the request was sent.
        let latest = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis) + sent_at.elapsed());
        let decoded = latest.ok_or_else(|| Error::corrupt("the server sent a time that this system cannot represent"));
        self.pool.decoded(decoded, Operation::Time, None, CallKind::Read)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.pool.call(Operation::Contains, Some(key), CallKind::Read, Ok(Request::Contains { key: key.into() })).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let request = || {
            let info = self.pool.info();
            options.check(&info.capabilities)?;
            info.limits.check_value(value.len())?;
            SetRequest::new(key, &value, options).map(Request::Set)
        };
        let outcome: Set = self.pool.call(Operation::Set, Some(key), CallKind::Write, request()).await?;
        self.pool.decoded(outcome.into_outcome(), Operation::Set, Some(key), CallKind::Write)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let request = || {
            options.check(&self.pool.info().capabilities)?;
            DeleteRequest::new(key, options).map(Request::Delete)
        };
        let outcome: Delete = self.pool.call(Operation::Delete, Some(key), CallKind::Write, request()).await?;
        self.pool.decoded(outcome.into_outcome(), Operation::Delete, Some(key), CallKind::Write)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let request = |keys: &[Key]| Ok(Request::GetMany { keys: keys.iter().map(Segments::from).collect() });
        let mut found = Vec::with_capacity(keys.len());
        while let Some(rest @ [_, ..]) = keys.get(found.len()..) {
            let part = self.pool.batch(Operation::GetMany, CallKind::Read, rest, request, decode_entry).await;
            // `Capacity` marks the keys whose values did not fit into the response. Request these keys again, unless
            // not even the first value fits.
            let is_omitted =
                |result: &Result<_>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Capacity);
            let complete = part.iter().position(is_omitted).filter(|&index| index > 0).unwrap_or(part.len());
            found.extend(part.into_iter().take(complete));
        }
        found
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let info = self.pool.info();
        let check = |item: &SetItem| {
            item.options.check(&info.capabilities)?;
            info.limits.check_value(item.value.len())
        };
        let request = |items: &[SetItem]| {
            let items = items.iter().map(|item| SetRequest::new(&item.key, &item.value, &item.options));
            Ok(Request::SetMany { items: items.collect::<Result<_>>()? })
        };
        // Return the error of an invalid item at its index, and write the other items.
        let errors: Vec<Option<Error>> = items.iter().map(|item| check(item).err()).collect();
        let valid: Vec<SetItem> =
            items.iter().zip(&errors).filter(|(_, error)| error.is_none()).map(|(item, _)| item.clone()).collect();
        let written = self.pool.batch(Operation::SetMany, CallKind::Write, &valid, request, Set::into_outcome).await;
        let mut written = written.into_iter();
        let outcome = |(item, error): (&SetItem, Option<Error>)| match error {
            Some(error) => Err(self.pool.with_context(error, Operation::SetMany, Some(&item.key))),
            // `batch` returns one result for each valid item.
            None => written
                .next()
                .unwrap_or_else(|| Err(Error::indeterminate(None, "the response has no result for this item"))),
        };
        items.iter().zip(errors).map(outcome).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let request = |keys: &[Key]| Ok(Request::DeleteMany { keys: keys.iter().map(Segments::from).collect() });
        self.pool.batch(Operation::DeleteMany, CallKind::Write, keys, request, Delete::into_outcome).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let request = || {
            query.check(&self.pool.info().capabilities)?;
            Ok(Request::List(ListRequest::from(query)))
        };
        let page: Page = self.pool.call(Operation::List, None, CallKind::Read, request()).await?;
        let decode = || {
            let mut page = page.into_page()?;
            let context = |error: Error| error.with_operation(Operation::List).with_backend(self.info().name.clone());
            page.damaged = page.damaged.into_iter().map(context).collect();
            check_page(query, &page)?;
            Ok(page)
        };
        self.pool.decoded(decode(), Operation::List, None, CallKind::Read)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.pool.call(Operation::Clear, None, CallKind::LongWrite, Ok(Request::Clear(prefix.into()))).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let request = ExpiryText::of_new(expiry).map(|expiry| Request::Touch { key: key.into(), expiry });
        self.pool.call(Operation::Touch, Some(key), CallKind::Write, request).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let request = || {
            options.check(&self.pool.info().capabilities)?;
            IncrementRequest::new(key, by, options).map(Request::Increment)
        };
        let text: String = self.pool.call(Operation::Increment, Some(key), CallKind::Write, request()).await?;
        let count = text.parse().map_err(|_| Error::invalid("a counter is a signed 64-bit integer"));
        self.pool.decoded(count, Operation::Increment, Some(key), CallKind::Write)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let request = || {
            let info = self.pool.info();
            transaction.validate(&info.capabilities, &info.limits)?;
            CommitRequest::new(transaction).map(Request::Commit)
        };
        let outcome: Commit = self.pool.call(Operation::Commit, None, CallKind::Write, request()).await?;
        Ok(outcome.into())
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let started = async {
            self.pool.check_open()?;
            query.check(&self.pool.info().capabilities)?;
            let mut later = query.clone();
            later.initial = Initial::None;
            let [first, later] = [query, &later].map(|query| Ok(Request::Watch(WatchRequest::new(query)?)));
            let max_event_bytes = response::max_bytes(self.pool.info().limits.max_value_bytes);
            stream::start(self.pool.endpoint(), self.pool.closed(), max_event_bytes, first?, later?).await
        };
        started.await.map_err(|error| self.pool.with_context(error, Operation::Watch, None))
    }

    async fn watch_into(&self, _target: &WatchTarget, _sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let refused = self.pool.check_open().and_then(|()| Err(Error::unsupported(Capability::Sinks)));
        refused.map_err(|error| self.pool.with_context(error, Operation::Watch, None))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let request = || {
            let info = self.pool.info();
            info.capabilities.require(Capability::Messages)?;
            info.limits.check_message(message.len())?;
            Ok(Request::Publish(PublishRequest::new(channel, &message)))
        };
        self.pool.call(Operation::Publish, Some(channel), CallKind::Write, request()).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let started = async {
            self.pool.check_open()?;
            let request = || Request::Subscribe(channels.into());
            let max_event_bytes = response::max_bytes(self.pool.info().limits.max_message_bytes);
            stream::start(self.pool.endpoint(), self.pool.closed(), max_event_bytes, request(), request()).await
        };
        started.await.map_err(|error| self.pool.with_context(error, Operation::Subscribe, None))
    }

    async fn ping(&self) -> Result<()> {
        self.pool.call(Operation::Ping, None, CallKind::Read, Ok(Request::Ping {})).await
    }

    async fn flush(&self) -> Result<()> {
        self.pool.call(Operation::Flush, None, CallKind::LongWrite, Ok(Request::Flush {})).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.pool.call(Operation::Sweep, None, CallKind::LongWrite, Ok(Request::Sweep {})).await
    }

    /// Flushes the store, and closes this handle and its clones. The served store stays open.
    async fn close(&self) -> Result<()> {
        self.pool.close().await.map_err(|error| self.pool.with_context(error, Operation::Close, None))
    }
}

/// Rejects a page whose cursor does not advance, because a caller that follows the cursors would never reach the end.
fn check_page(query: &ListQuery, page: &ListPage) -> Result<()> {
    let Some(next) = &page.next else { return Ok(()) };
    let advances = query.range().is_some_and(|range| range.contains(&next.as_str().to_owned()));
    if advances { Ok(()) } else { Err(Error::corrupt("the cursor of the page is outside of the requested range")) }
}
