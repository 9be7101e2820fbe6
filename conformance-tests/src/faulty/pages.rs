//! Lists in the wrong order, beyond their bounds, and pages that overlap or leave a hole.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{Entry, Error, Key, KeyPrefix, KvStore, ListItem, ListPage, ListQuery, Result, delegate_store};

use super::kept::Kept;
use super::{faults, scan};

faults! { pages:
    unsorted: "K-3" "gives the items of a page in the order of a hash table"
        ["keys/order_is_by_segment", "cancel/list"]
        |inner, _clock| Paged::new(inner, |_, page| {
            page.items.sort_by_key(|item| item.key.fingerprint());
        });
    reverse_is_ignored: "L-1" "always lists forward"
        ["list/reversed", "ranges/never_widen_the_prefix", "list/during_writes_reversed", "list/two_at_once"]
        |inner, _clock| Queried::new(inner, |query| query.reverse = false);
    before_is_ignored: "L-1" "lists beyond the upper bound"
        ["ranges/before_is_exclusive", "ranges/outside_the_prefix", "random/lists"]
        |inner, _clock| Queried::new(inner, |query| query.before = None);
    after_widens_the_prefix: "L-1" "forgets the prefix where a bound is given, as Deno did"
        ["ranges/outside_the_prefix", "pages/of_every_size", "pages/of_every_size_reversed",
         "ranges/a_parent_and_its_children", "ranges/every_combination_reversed"]
        |inner, _clock| Queried::new(inner, |query| {
            if query.after.is_some() || query.before.is_some() {
                query.prefix = KeyPrefix::ALL;
            }
        });
    limit_is_ignored: "L-1" "gives a page of everything"
        ["list/zero_is_refused", "pages/hold_at_most_the_limit", "pages/of_bytes_and_limits"]
        |inner, _clock| Queried::new(inner, |query| query.limit = None);
    limit_of_zero_is_none: "L-1" "takes a limit of zero for no limit"
        ["list/zero_is_refused"]
        |inner, _clock| Queried::new(inner, |query| query.limit = query.limit.filter(|limit| *limit > 0));
    keys_only_is_ignored: "L-1" "reads and gives the values although only keys were asked for, as Deno did"
        ["list/keys_only"]
        |inner, _clock| Queried::new(inner, |query| query.keys_only = false);
    page_bytes_are_ignored: "L-3" "a page holds any number of bytes"
        ["pages/by_default_have_an_end", "pages/end_at_their_bytes", "pages/of_bytes_reversed",
         "pages/one_large_value_is_a_page"]
        |inner, _clock| Queried::new(inner, |query| query.max_page_bytes = usize::MAX);
    the_prefix_key_is_left_out: "L-1" "lists what is below the prefix and not the key itself"
        ["list/the_prefix_key_and_below", "list/the_empty_segment_is_not_everything"]
        |inner, _clock| Paged::new(inner, |query, page| {
            let own = query.prefix.to_key();
            page.items.retain(|item| Some(&item.key) != own.as_ref());
        });
    ends_at_a_thousand: "L-1" "silently ends a list at a thousand keys, as openkeyv did at ten thousand"
        ["list/ten_thousand"]
        |inner, _clock| Capped { inner };
    ends_at_65536: "L-3" "counts what it lists in two bytes, and ends a list where they are full"
        ["list/a_hundred_thousand"]
        |inner, _clock| ShortCount { inner, listed: Kept::default() };
    pages_overlap: "L-1" "starts a page with the key that ended the one before, as SCAN may"
        ["pages/of_every_size", "ranges/start_behind_end", "list/during_writes"]
        |inner, _clock| Overlapping { inner };
    pages_go_by_offset: "L-2" "resumes by counting, so that a delete in between skips a key"
        ["pages/resume_sees_what_came", "list/get_inside", "pages/resume_after_a_deleted_key",
         "ranges/every_combination_in_pages"]
        |inner, _clock| Offset { inner, places: Kept::default() };
    a_mark_must_exist: "L-1" "makes an error of resuming behind a key that is gone"
        ["pages/resume_after_everything_went", "keys/namespaces_stay_apart", "ranges/bounds_need_not_exist",
         "ranges/every_combination", "ranges/start_at_end"]
        |inner, _clock| Anchored { inner };
    nothing_is_an_error: "L-1" "makes an error of a list without items"
        ["list/of_nothing", "ranges/after_is_exclusive", "ranges/before_is_exclusive", "ranges/the_first_and_the_last"]
        |inner, _clock| NeverEmpty { inner };
    a_page_locks_the_store: "G-2" "holds a lock between the pages of a list, so that who reads in between waits for ever"
        ["concurrency/get_inside_a_list_loop"]
        |inner, _clock| Locking { inner, lock: Arc::default(), held: Kept::default() };
    shows_internal_keys: "L-1" "lists a key of its own housekeeping"
        ["list/everything", "list/shows_what_get_shows"]
        |inner, _clock| Paged::new(inner, |query, page| {
            if let (true, Ok(own)) = (query.prefix.is_all() && !page.items.is_empty(), Key::new(["zz:meta", "layout"])) {
                page.items.push(ListItem { key: own, entry: None });
            }
        });
}

/// Changes what was asked.
struct Queried {
    inner: Arc<dyn KvStore>,
    change: fn(&mut ListQuery),
}

impl Queried {
    fn new(inner: Arc<dyn KvStore>, change: fn(&mut ListQuery)) -> Self {
        Self { inner, change }
    }
}

impl fmt::Debug for Queried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queried").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Queried {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut query = query.clone();
        (self.change)(&mut query);
        self.inner.list(&query).await
    }
}

/// Changes what was found.
struct Paged {
    inner: Arc<dyn KvStore>,
    change: fn(&ListQuery, &mut ListPage),
}

impl Paged {
    fn new(inner: Arc<dyn KvStore>, change: fn(&ListQuery, &mut ListPage)) -> Self {
        Self { inner, change }
    }
}

impl fmt::Debug for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paged").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Paged {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        (self.change)(query, &mut page);
        Ok(page)
    }
}

#[derive(Debug)]
struct Capped {
    inner: Arc<dyn KvStore>,
}

impl Capped {
    const MOST: usize = 1_000;
}

#[async_trait]
impl KvStore for Capped {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut capped = query.clone();
        capped.limit = Some(query.limit.unwrap_or(Self::MOST).min(Self::MOST));
        let mut page = self.inner.list(&capped).await?;
        if page.items.len() >= Self::MOST {
            page.next = None;
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ShortCount {
    inner: Arc<dyn KvStore>,
    listed: Kept<usize>,
}

#[async_trait]
impl KvStore for ShortCount {
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
struct Overlapping {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Overlapping {
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
struct Offset {
    inner: Arc<dyn KvStore>,
    /// How many items came before the page that starts behind a key.
    places: Kept<HashMap<Key, usize>>,
}

#[async_trait]
impl KvStore for Offset {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let edge = if query.reverse { &query.before } else { &query.after };
        let place = edge.as_ref().and_then(|key| self.places.lock().get(key).copied());
        let page = match place {
            None => self.inner.list(query).await?,
            Some(place) => {
                let mut whole = query.clone();
                if query.reverse {
                    whole.before = None;
                } else {
                    whole.after = None;
                }
                whole.limit = None;
                whole.max_page_bytes = usize::MAX;
                let items = scan::everything(&*self.inner, &query.prefix, query.keys_only).await?;
                let rest = scan::page(items, &whole, |_| true).items.into_iter().skip(place).collect();
                whole.limit = query.limit;
                whole.max_page_bytes = query.max_page_bytes;
                scan::page(rest, &whole, |_| true)
            }
        };
        if let Some(next) = &page.next {
            let place = place.unwrap_or_default() + page.items.len();
            self.places.lock().insert(next.clone(), place);
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct Anchored {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Anchored {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        if let Some(after) = &query.after
            && !self.inner.contains(after).await?
        {
            return Err(Error::invalid("the mark is not there"));
        }
        self.inner.list(query).await
    }
}

#[derive(Debug)]
struct NeverEmpty {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NeverEmpty {
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
struct Locking {
    inner: Arc<dyn KvStore>,
    lock: Arc<tokio::sync::Mutex<()>>,
    held: Kept<Option<tokio::sync::OwnedMutexGuard<()>>>,
}

#[async_trait]
impl KvStore for Locking {
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
