//! The store: each method a request.

use std::ops::RangeBounds;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{
    Bytes, Capability, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, IncrementOptions, Initial,
    Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Result, SetItem, SetOptions,
    SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream,
};

use super::answer;
use super::calls::{Calls, Kind};
use super::endpoint::Endpoint;
use super::stream;
use crate::request::{
    CommitRequest, DeleteRequest, ExpiryText, IncrementRequest, ListRequest, PublishRequest, Request, SetRequest,
    WatchRequest,
};
use crate::shape::{Commit, Delete, Item, Page, Segments, Set, read};

/// A store that another process serves by the protocol of this crate. What it can do is what the store there can do.
///
/// A clone is the same handle. Each call that is under way has a connection to itself, and so has each stream.
#[derive(Debug, Clone)]
pub struct LinesStore {
    calls: Arc<Calls>,
}

impl LinesStore {
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self> {
        Ok(Self { calls: Arc::new(Calls::connect(endpoint).await?) })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl KvStore for LinesStore {
    fn info(&self) -> &StoreInfo {
        self.calls.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found =
            self.calls.call(Operation::Get, Some(key), Kind::Read, Ok(Request::Get { key: key.into() })).await?;
        self.calls.understood(read(found), Operation::Get, Some(key), Kind::Read)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.calls.call(Operation::Contains, Some(key), Kind::Read, Ok(Request::Contains { key: key.into() })).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let request = || {
            let info = self.calls.info();
            options.check(&info.capabilities)?;
            info.limits.check_value(value.len())?;
            SetRequest::new(key, &value, options).map(Request::Set)
        };
        let outcome: Set = self.calls.call(Operation::Set, Some(key), Kind::Write, request()).await?;
        self.calls.understood(outcome.into_outcome(), Operation::Set, Some(key), Kind::Write)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let request = || {
            options.check(&self.calls.info().capabilities)?;
            DeleteRequest::new(key, options).map(Request::Delete)
        };
        let outcome: Delete = self.calls.call(Operation::Delete, Some(key), Kind::Write, request()).await?;
        self.calls.understood(outcome.into_outcome(), Operation::Delete, Some(key), Kind::Write)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let request = |keys: &[Key]| Ok(Request::GetMany { keys: keys.iter().map(Segments::from).collect() });
        let mut found = Vec::with_capacity(keys.len());
        while let Some(rest @ [_, ..]) = keys.get(found.len()..) {
            let part = self.calls.batch(Operation::GetMany, Kind::Read, rest, request, read).await;
            // What one answer had no room for is asked for again.
            let is_left = |one: &Result<_>| one.as_ref().is_err_and(|error| error.kind() == ErrorKind::Capacity);
            let told = part.iter().position(is_left).filter(|&place| place > 0).unwrap_or(part.len());
            found.extend(part.into_iter().take(told));
        }
        found
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let info = self.calls.info();
        let check = |item: &SetItem| {
            item.options.check(&info.capabilities)?;
            info.limits.check_value(item.value.len())
        };
        let request = |items: &[SetItem]| {
            let items = items.iter().map(|item| SetRequest::new(&item.key, &item.value, &item.options));
            Ok(Request::SetMany { items: items.collect::<Result<_>>()? })
        };
        // What is wrong by itself is told in its own place, and the others are written.
        let refused: Vec<Option<Error>> = items.iter().map(|item| check(item).err()).collect();
        let good: Vec<SetItem> =
            items.iter().zip(&refused).filter(|(_, error)| error.is_none()).map(|(item, _)| item.clone()).collect();
        let written = self.calls.batch(Operation::SetMany, Kind::Write, &good, request, Set::into_outcome).await;
        let mut written = written.into_iter();
        let outcome = |(item, refused): (&SetItem, Option<Error>)| match refused {
            Some(error) => Err(self.calls.explained(error, Operation::SetMany, Some(&item.key))),
            // As many were written as were not refused.
            None => written.next().unwrap_or_else(|| Err(Error::indeterminate(None, "no answer"))),
        };
        items.iter().zip(refused).map(outcome).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let request = |keys: &[Key]| Ok(Request::DeleteMany { keys: keys.iter().map(Segments::from).collect() });
        self.calls.batch(Operation::DeleteMany, Kind::Write, keys, request, Delete::into_outcome).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let request = || {
            query.check(&self.calls.info().capabilities)?;
            Ok(Request::List(ListRequest::from(query)))
        };
        let Page { items, next } = self.calls.call(Operation::List, None, Kind::Read, request()).await?;
        let read = || {
            let items = items.into_iter().map(Item::into_item).collect::<Result<_>>()?;
            let page = ListPage { items, next: next.as_ref().map(Segments::key).transpose()? };
            check_page(query, &page)?;
            Ok(page)
        };
        self.calls.understood(read(), Operation::List, None, Kind::Read)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.calls.call(Operation::Clear, None, Kind::Long, Ok(Request::Clear { prefix: prefix.into() })).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let request = ExpiryText::of_new(expiry).map(|expiry| Request::Touch { key: key.into(), expiry });
        self.calls.call(Operation::Touch, Some(key), Kind::Write, request).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let request = || {
            options.check(&self.calls.info().capabilities)?;
            IncrementRequest::new(key, by, options).map(Request::Increment)
        };
        let text: String = self.calls.call(Operation::Increment, Some(key), Kind::Write, request()).await?;
        let count = text.parse().map_err(|_| Error::invalid("a counter is a whole number of 64 bits"));
        self.calls.understood(count, Operation::Increment, Some(key), Kind::Write)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let request = || {
            let info = self.calls.info();
            transaction.validate(&info.capabilities, &info.limits)?;
            CommitRequest::new(transaction).map(Request::Commit)
        };
        let outcome: Commit = self.calls.call(Operation::Commit, None, Kind::Write, request()).await?;
        Ok(outcome.into())
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let started = async {
            self.calls.check_open()?;
            query.check(&self.calls.info().capabilities)?;
            let mut later = query.clone();
            later.initial = Initial::None;
            let [first, later] = [query, &later].map(|query| Ok(Request::Watch(WatchRequest::new(query)?)));
            let longest = answer::bytes_with(self.calls.info().limits.max_value_bytes);
            stream::start(self.calls.endpoint(), self.calls.closing(), longest, first?, later?).await
        };
        started.await.map_err(|error| self.calls.explained(error, Operation::Watch, None))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let request = || {
            let info = self.calls.info();
            info.capabilities.require(Capability::Messages)?;
            info.limits.check_message(message.len())?;
            Ok(Request::Publish(PublishRequest::new(channel, &message)))
        };
        self.calls.call(Operation::Publish, Some(channel), Kind::Write, request()).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let started = async {
            self.calls.check_open()?;
            let request = || Request::Subscribe { channels: channels.into() };
            let longest = answer::bytes_with(self.calls.info().limits.max_message_bytes);
            stream::start(self.calls.endpoint(), self.calls.closing(), longest, request(), request()).await
        };
        started.await.map_err(|error| self.calls.explained(error, Operation::Subscribe, None))
    }

    async fn ping(&self) -> Result<()> {
        self.calls.call(Operation::Ping, None, Kind::Read, Ok(Request::Ping {})).await
    }

    async fn flush(&self) -> Result<()> {
        self.calls.call(Operation::Flush, None, Kind::Long, Ok(Request::Flush {})).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.calls.call(Operation::Sweep, None, Kind::Long, Ok(Request::Sweep {})).await
    }

    /// Closes this handle and its clones; the store goes on where it is served.
    async fn close(&self) -> Result<()> {
        self.calls.close().await.map_err(|error| self.calls.explained(error, Operation::Close, None))
    }
}

/// Refuses a page after which a listing would not come to its end.
fn check_page(query: &ListQuery, page: &ListPage) -> Result<()> {
    let Some(next) = &page.next else { return Ok(()) };
    let leads_on = query.range().is_some_and(|range| range.contains(&next.as_str().to_owned()));
    if leads_on { Ok(()) } else { Err(Error::corrupt("the served store gave a page that leads nowhere")) }
}
