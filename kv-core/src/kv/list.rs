//! Listing as a stream of items.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::task::coop::consume_budget;

use super::handle::Kv;
use crate::capabilities::List;
use crate::codec::Codec;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::{IntoKey, IntoPrefix, Key};
use crate::list::{ListItem, ListQuery};
use crate::store::KvStore;

impl Kv {
    /// Lists the values under a prefix in key order, including the prefix's own key. `()` lists the whole namespace.
    ///
    /// # Errors
    /// The stream yields `Unsupported` without the list capability, `Invalid` for an invalid prefix or bound, and
    /// errors of the store. A value that does not decode yields a `Corrupt` error in its place.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set_many([(["users", "1"], "ada"), (["users", "2"], "grace")]).await.all()?;
    ///
    /// let mut users = kv.list::<String>(["users"]).reverse();
    /// while let Some(user) = users.next().await {
    ///     let (key, name) = user?;
    ///     println!("{key}: {name}");
    /// }
    /// let first = kv.keys(["users"]).limit(1).all().await?;
    /// assert_eq!(first[0].as_str(), "users#1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn list<T: DeserializeOwned>(&self, prefix: impl IntoPrefix) -> Listing<(Key, T)> {
        Listing::new(self, prefix, false, |codec, key, entry| {
            let context = |error: Error| error.with_operation(Operation::List).with_key(&key);
            let value = codec.decode(&require_entry(entry)?.value).map_err(context)?;
            Ok((key, value))
        })
    }

    /// Lists the entries under a prefix without decoding them. Otherwise it works as [`Kv::list`].
    ///
    /// # Errors
    /// The errors of [`Kv::list`].
    pub fn entries(&self, prefix: impl IntoPrefix) -> Listing<(Key, Entry)> {
        Listing::new(self, prefix, false, |_, key, entry| Ok((key, require_entry(entry)?)))
    }

    /// Lists the keys under a prefix without reading values. Otherwise it works as [`Kv::list`].
    ///
    /// # Errors
    /// The errors of [`Kv::list`].
    pub fn keys(&self, prefix: impl IntoPrefix) -> Listing<Key> {
        Listing::new(self, prefix, true, |_, key, _| Ok(key))
    }
}

fn require_entry(entry: Option<Entry>) -> Result<Entry> {
    entry.ok_or_else(|| Error::defect("the store listed a key without its entry"))
}

/// Converts a listed key to the item type.
type Read<T> = fn(Codec, Key, Option<Entry>) -> Result<T>;

/// A [`Stream`] of items in key order. The stream reads page by page and does nothing before it is polled.
///
/// An entry that exists during the whole listing appears exactly once. The listing is not a snapshot: an entry that is
/// written or removed during the listing may appear or not. A store without an ordered index is scanned once for all
/// keys, and then the values are read in batches. After an error other than `Corrupt` the stream ends.
#[must_use = "nothing is listed until the stream is polled"]
pub struct Listing<T> {
    state: State<T>,
}

enum State<T> {
    /// `None` only while the stream is being started.
    Planned(Option<Plan<T>>),
    Running(BoxStream<'static, Result<T>>),
}

struct Plan<T> {
    store: Arc<dyn KvStore>,
    codec: Codec,
    query: Result<ListQuery>,
    remaining: Option<usize>,
    page_size: usize,
    read: Read<T>,
}

impl<T> Listing<T> {
    /// The default maximum number of keys in a page.
    pub const DEFAULT_PAGE_SIZE: usize = 256;

    fn new(kv: &Kv, prefix: impl IntoPrefix, keys_only: bool, read: Read<T>) -> Self {
        let query = prefix.into_prefix().map(|prefix| {
            let query = ListQuery::new(prefix);
            if keys_only { query.with_keys_only() } else { query }
        });
        let (store, codec, page_size) = (Arc::clone(&kv.store), kv.codec, Self::DEFAULT_PAGE_SIZE);
        Self { state: State::Planned(Some(Plan { store, codec, query, remaining: None, page_size, read })) }
    }

    /// Sets the exclusive lower bound. The key need not exist.
    pub fn after(self, key: impl IntoKey) -> Self {
        self.query(|query| Ok(query.with_after(key.into_key()?)))
    }

    /// Sets the exclusive upper bound. The key need not exist.
    pub fn before(self, key: impl IntoKey) -> Self {
        self.query(|query| Ok(query.with_before(key.into_key()?)))
    }

    /// Lists from the last key to the first.
    pub fn reverse(self) -> Self {
        self.query(|query| Ok(query.with_reverse()))
    }

    /// Sets the maximum number of items in total.
    pub fn limit(self, items: usize) -> Self {
        self.plan(|plan| plan.remaining = Some(items))
    }

    /// Sets the maximum number of keys per call to the store, [`Self::DEFAULT_PAGE_SIZE`] by default. Zero is
    /// `Invalid`.
    pub fn page_size(self, keys: usize) -> Self {
        self.plan(|plan| plan.page_size = keys)
    }

    fn query(self, change: impl FnOnce(ListQuery) -> Result<ListQuery>) -> Self {
        self.plan(|plan| {
            let query = std::mem::replace(&mut plan.query, Ok(ListQuery::default()));
            plan.query = query.and_then(change);
        })
    }

    fn plan(mut self, change: impl FnOnce(&mut Plan<T>)) -> Self {
        if let State::Planned(Some(plan)) = &mut self.state {
            change(plan);
        }
        self
    }
}

impl<T: Send + 'static> Listing<T> {
    /// Returns the next item, or `None` at the end.
    ///
    /// # Errors
    /// The errors of [`Kv::list`].
    ///
    /// # Cancel safety
    /// A dropped future loses no item.
    pub async fn next(&mut self) -> Option<Result<T>> {
        StreamExt::next(self).await
    }

    /// Returns all items, or the first error.
    ///
    /// # Errors
    /// The errors of [`Kv::list`].
    pub async fn all(mut self) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    fn stream(&mut self) -> Option<&mut BoxStream<'static, Result<T>>> {
        if let State::Planned(plan) = &mut self.state {
            self.state = State::Running(plan.take()?.start());
        }
        match &mut self.state {
            State::Running(stream) => Some(stream),
            State::Planned(_) => None,
        }
    }
}

impl<T: Send + 'static> Stream for Listing<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        match self.stream() {
            Some(stream) => stream.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Listing");
        if let State::Planned(Some(plan)) = &self.state {
            fields.field("query", &plan.query).field("limit", &plan.remaining).field("page_size", &plan.page_size);
        }
        fields.finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Plan<T> {
    fn start(self) -> BoxStream<'static, Result<T>> {
        let Self { store, codec, query, remaining, page_size, read } = self;
        let query = match query {
            Ok(_) if page_size == 0 => Err(Error::invalid("the page size is zero: a page needs at least one item")),
            query => query,
        };
        let query = match query {
            Ok(query) => query,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let scans = !matches!(store.info().capabilities.list, List::Native);
        let source = if scans { Source::Scan(query) } else { Source::Pages(query) };
        let pages = Pages { store, remaining, page_size, source, ready: VecDeque::new() };
        let items = stream::unfold(pages, |mut pages| async move { Some((pages.next().await?, pages)) });
        items.map(move |item| item.and_then(|ListItem { key, entry }| read(codec, key, entry))).boxed()
    }
}

struct Pages {
    store: Arc<dyn KvStore>,
    /// The number of items that may still be returned; `None` is unlimited.
    remaining: Option<usize>,
    page_size: usize,
    source: Source,
    ready: VecDeque<Result<ListItem>>,
}

/// The source of the next items.
enum Source {
    /// The next page of this query.
    Pages(ListQuery),
    /// A scan of all keys. The scan has not started.
    Scan(ListQuery),
    /// The values of these keys, which are read in batches.
    Values(std::vec::IntoIter<Key>),
    End,
}

impl Pages {
    async fn next(&mut self) -> Option<Result<ListItem>> {
        while self.remaining != Some(0) {
            if !self.ready.is_empty() {
                // The items of a page are always ready. A long page would block the other tasks of its thread.
                consume_budget().await;
            }
            if let Some(item) = self.ready.pop_front() {
                if item.as_ref().is_err_and(|error| error.kind() != ErrorKind::Corrupt) {
                    (self.source, self.ready) = (Source::End, VecDeque::new());
                }
                self.remaining = self.remaining.map(|remaining| remaining - 1);
                return Some(item);
            }
            let filled = match std::mem::replace(&mut self.source, Source::End) {
                Source::Pages(query) => self.page(query).await,
                Source::Scan(query) => self.scan(query).await,
                Source::Values(keys) => self.values(keys).await,
                Source::End => return None,
            };
            if let Err(error) = filled {
                self.source = Source::End;
                return Some(Err(error));
            }
        }
        None
    }

    async fn page(&mut self, query: ListQuery) -> Result<()> {
        let query = query.with_limit(self.remaining.map_or(self.page_size, |remaining| remaining.min(self.page_size)));
        let page = self.store.list(&query).await?;
        let next = page.next.clone();
        self.ready.extend(page.into_results(query.reverse));
        self.source = next.map_or(Source::End, |next| Source::Pages(query.resume(next)));
        Ok(())
    }

    async fn scan(&mut self, query: ListQuery) -> Result<()> {
        let only_keys = query.keys_only;
        // An entry may disappear between the scan and the read of its value, so only a listing of keys can limit the
        // scan.
        let needed = if only_keys { self.remaining } else { None };
        let mut query = query.with_keys_only();
        query.limit = needed;
        let mut items = Vec::new();
        loop {
            let page = self.store.list(&query).await?;
            self.ready.extend(page.damaged.into_iter().map(Err));
            items.extend(page.items);
            match page.next {
                Some(next) if needed.is_none_or(|needed| items.len() < needed) => query = query.resume(next),
                _ => break,
            }
        }
        if only_keys {
            self.ready.extend(items.into_iter().map(Ok));
        } else {
            self.source = Source::Values(items.into_iter().map(|item| item.key).collect::<Vec<_>>().into_iter());
        }
        Ok(())
    }

    async fn values(&mut self, mut keys: std::vec::IntoIter<Key>) -> Result<()> {
        let chunk: Vec<Key> = keys.by_ref().take(self.page_size.min(self.remaining.unwrap_or(usize::MAX))).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        let results = self.store.get_many(&chunk).await;
        let item = |(key, result): (Key, Result<Option<Entry>>)| match result {
            Ok(Some(entry)) => Some(Ok(ListItem { key, entry: Some(entry) })),
            // The entry disappeared after the scan.
            Ok(None) => None,
            Err(error) => Some(Err(error.with_key(&key))),
        };
        self.ready.extend(chunk.into_iter().zip(results).filter_map(item));
        self.source = Source::Values(keys);
        Ok(())
    }
}
