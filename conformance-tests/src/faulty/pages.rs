//! Lists in the wrong order or range, and pages that overlap, skip keys or ignore their limits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{Entry, Error, Key, KeyPrefix, KvStore, ListItem, ListPage, ListQuery, Result, delegate_store};

use super::hidden::Hidden;
use super::{faults, scan};

faults! { pages:
    /// Returns the items of a page in the order of a hash table.
    unsorted: "K-3"
        ["keys/order_is_by_segment", "cancel/list"]
        |inner, _clock| ChangedPage::new(inner, |_, page| {
            page.items.sort_by_key(|item| item.key.fingerprint());
        });
    /// Always lists forward.
    reverse_is_ignored: "L-1"
        ["list/reversed", "ranges/never_widen_the_prefix", "list/during_writes_reversed", "list/two_at_once"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.reverse = false);
    /// Lists beyond the upper bound.
    before_is_ignored: "L-1"
        ["ranges/before_is_exclusive", "ranges/outside_the_prefix", "random/lists"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.before = None);
    /// Ignores the prefix if a bound is given, as Deno did.
    bounds_drop_the_prefix: "L-1"
        ["ranges/outside_the_prefix", "pages/of_every_size", "pages/of_every_size_reversed",
         "ranges/a_parent_and_its_children", "ranges/every_combination_reversed"]
        |inner, _clock| ChangedQuery::new(inner, |query| {
            if query.after.is_some() || query.before.is_some() {
                query.prefix = KeyPrefix::ALL;
            }
        });
    /// Ignores the limit of a page.
    limit_is_ignored: "L-1"
        ["list/zero_is_refused", "pages/hold_at_most_the_limit", "pages/of_bytes_and_limits"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.limit = None);
    /// Treats a limit of zero as no limit.
    limit_of_zero_is_no_limit: "L-1"
        ["list/zero_is_refused"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.limit = query.limit.filter(|limit| *limit > 0));
    /// Reads and returns values although only keys were requested, as Deno did.
    keys_only_is_ignored: "L-1"
        ["list/keys_only"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.keys_only = false);
    /// Ignores the limit on the bytes of a page.
    page_bytes_are_ignored: "L-3"
        ["pages/by_default_have_an_end", "pages/end_at_their_bytes", "pages/of_bytes_reversed",
         "pages/one_large_value_is_a_page"]
        |inner, _clock| ChangedQuery::new(inner, |query| query.max_page_bytes = usize::MAX);
    /// Reads and sorts all entries for each page, as a store without an index does.
    pages_read_everything: "L-3"
        ["list_cost/pages_read_their_entries_only"]
        |inner, _clock| ReadsEverything { inner };
    /// Lists the keys below the prefix, but not the prefix key itself.
    prefix_key_is_omitted: "L-1"
        ["list/the_prefix_key_and_below", "list/the_empty_segment_is_not_everything"]
        |inner, _clock| ChangedPage::new(inner, |query, page| {
            let own = query.prefix.to_key();
            page.items.retain(|item| Some(&item.key) != own.as_ref());
        });
    /// Silently ends a list after a thousand keys, as openkeyv did after ten thousand.
    truncated_at_a_thousand_keys: "L-1"
        ["list/ten_thousand"]
        |inner, _clock| TruncatedList { inner };
    /// Counts the listed keys in 16 bits, and ends the list at 65,535.
    truncated_at_65535_keys: "L-3"
        ["list/a_hundred_thousand"]
        |inner, _clock| SixteenBitCount { inner, listed: Hidden::default() };
    /// Starts a page with the last key of the page before, as SCAN may.
    pages_overlap: "L-1"
        ["pages/of_every_size", "ranges/start_behind_end", "list/during_writes"]
        |inner, _clock| OverlappingPages { inner };
    /// Resumes by offset, so a delete between two pages skips a key.
    pages_go_by_offset: "L-2"
        ["pages/resume_sees_what_came", "list/get_inside", "pages/resume_after_a_deleted_key",
         "ranges/every_combination_in_pages"]
        |inner, _clock| ResumesByOffset { inner, offsets: Hidden::default() };
    /// Returns an error if a list resumes after a key that no longer exists.
    resume_key_must_exist: "L-1"
        ["pages/resume_after_everything_went", "keys/namespaces_stay_apart", "ranges/bounds_need_not_exist",
         "ranges/every_combination", "ranges/start_at_end"]
        |inner, _clock| ResumeKeyMustExist { inner };
    /// Returns an error for a list without items.
    empty_lists_fail: "L-1"
        ["list/of_nothing", "ranges/after_is_exclusive", "ranges/before_is_exclusive", "ranges/the_first_and_the_last"]
        |inner, _clock| EmptyListFails { inner };
    /// Holds a lock between the pages of a list, so a `get` between two pages waits forever.
    lock_is_held_between_pages: "G-2"
        ["concurrency/get_inside_a_list_loop"]
        |inner, _clock| LockedBetweenPages { inner, lock: Arc::default(), held: Hidden::default() };
    /// Lists a key of its own metadata.
    shows_internal_keys: "L-1"
        ["list/everything", "list/shows_what_get_shows"]
        |inner, _clock| ChangedPage::new(inner, |query, page| {
            let is_shown = query.prefix.is_all() && !page.items.is_empty();
            if let (true, Ok(key)) = (is_shown, Key::new(["zz:meta", "layout"])) {
                page.items.push(ListItem { key, entry: None });
            }
        });
}

/// Changes the query before the good store receives it.
struct ChangedQuery {
    inner: Arc<dyn KvStore>,
    change: fn(&mut ListQuery),
}

impl ChangedQuery {
    fn new(inner: Arc<dyn KvStore>, change: fn(&mut ListQuery)) -> Self {
        Self { inner, change }
    }
}

impl fmt::Debug for ChangedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedQuery").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedQuery {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut query = query.clone();
        (self.change)(&mut query);
        self.inner.list(&query).await
    }
}

/// Changes the page that the good store returns.
struct ChangedPage {
    inner: Arc<dyn KvStore>,
    change: fn(&ListQuery, &mut ListPage),
}

impl ChangedPage {
    fn new(inner: Arc<dyn KvStore>, change: fn(&ListQuery, &mut ListPage)) -> Self {
        Self { inner, change }
    }
}

impl fmt::Debug for ChangedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedPage").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedPage {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        (self.change)(query, &mut page);
        Ok(page)
    }
}

#[derive(Debug)]
struct TruncatedList {
    inner: Arc<dyn KvStore>,
}

impl TruncatedList {
    const MAX_ITEMS: usize = 1_000;
}

#[async_trait]
impl KvStore for TruncatedList {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut capped = query.clone();
        capped.limit = Some(query.limit.unwrap_or(Self::MAX_ITEMS).min(Self::MAX_ITEMS));
        let mut page = self.inner.list(&capped).await?;
        if page.items.len() >= Self::MAX_ITEMS {
            page.next = None;
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct SixteenBitCount {
    inner: Arc<dyn KvStore>,
    listed: Hidden<usize>,
}

#[async_trait]
impl KvStore for SixteenBitCount {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let mut listed = self.listed.lock();
        let before = if query.after.is_some() { *listed } else { 0 };
        *listed = before + page.items.len();
        if *listed > usize::from(u16::MAX) {
            page.items.truncate(usize::from(u16::MAX).saturating_sub(before));
            page.next = None;
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct OverlappingPages {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OverlappingPages {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let edge = if query.reverse { &query.before } else { &query.after };
        if let Some(key) = edge.as_ref().filter(|key| query.prefix.covers(key))
            && let Some(entry) = self.inner.get(key).await?
        {
            let entry = (!query.keys_only).then_some(entry);
            page.items.insert(0, ListItem { key: key.clone(), entry });
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ResumesByOffset {
    inner: Arc<dyn KvStore>,
    /// The number of items before the page that starts after a key.
    offsets: Hidden<HashMap<Key, usize>>,
}

#[async_trait]
impl KvStore for ResumesByOffset {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let edge = if query.reverse { &query.before } else { &query.after };
        let offset = edge.as_ref().and_then(|key| self.offsets.lock().get(key).copied());
        let page = match offset {
            None => self.inner.list(query).await?,
            Some(offset) => {
                let mut whole = query.clone();
                if query.reverse {
                    whole.before = None;
                } else {
                    whole.after = None;
                }
                whole.limit = None;
                whole.max_page_bytes = usize::MAX;
                let items = scan::list_all(&*self.inner, &query.prefix, query.keys_only).await?;
                let rest = scan::page(items, &whole, |_| true).items.into_iter().skip(offset).collect();
                whole.limit = query.limit;
                whole.max_page_bytes = query.max_page_bytes;
                scan::page(rest, &whole, |_| true)
            }
        };
        if let Some(next) = &page.next {
            let offset = offset.unwrap_or_default() + page.items.len();
            self.offsets.lock().insert(next.clone(), offset);
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ResumeKeyMustExist {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ResumeKeyMustExist {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        if let Some(after) = &query.after
            && !self.inner.contains(after).await?
        {
            return Err(Error::invalid("the key to resume after does not exist"));
        }
        self.inner.list(query).await
    }
}

#[derive(Debug)]
struct EmptyListFails {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EmptyListFails {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let page = self.inner.list(query).await?;
        if page.items.is_empty() && page.next.is_none() && !query.keys_only {
            return Err(Error::invalid("there is nothing to list"));
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct LockedBetweenPages {
    inner: Arc<dyn KvStore>,
    lock: Arc<tokio::sync::Mutex<()>>,
    held: Hidden<Option<tokio::sync::OwnedMutexGuard<()>>>,
}

#[async_trait]
impl KvStore for LockedBetweenPages {
    delegate_store!(self.inner, except get list);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let _reading = self.lock.lock().await;
        self.inner.get(key).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        drop(self.held.lock().take());
        let listing = Arc::clone(&self.lock).lock_owned().await;
        let page = self.inner.list(query).await?;
        if page.next.is_some() {
            *self.held.lock() = Some(listing);
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ReadsEverything {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ReadsEverything {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let items = scan::list_all(&*self.inner, &KeyPrefix::ALL, query.keys_only).await?;
        Ok(scan::page(items, query, |key| query.prefix.covers(key)))
    }
}
