//! Reads lists of any length.

use std::sync::Arc;

use anykv::{Error, KvStore, List, ListItem, ListQuery, Result};

use crate::output;

/// Reads the pages of a list one after the other, with one page in memory. Names damaged entries on stderr, and skips
/// these entries.
pub(crate) struct Pager {
    store: Arc<dyn KvStore>,
    query: Option<ListQuery>,
    /// The number of items that remain up to the limit of the query. `None` without a limit.
    remaining: Option<usize>,
    damaged: u64,
}

impl Pager {
    /// The maximum number of items in a page of a store that lists by an index. Other stores scan all entries for each
    /// page, so they get only the limit of the query.
    const PAGE_ITEMS: usize = 1_000;

    /// Creates a pager. The limit of `query` applies to the whole list.
    pub(crate) fn new(store: Arc<dyn KvStore>, mut query: ListQuery) -> Self {
        let remaining = query.limit.take();
        Self { store, query: Some(query), remaining, damaged: 0 }
    }

    /// Returns the next page, which may be empty, or `None` at the end.
    pub(crate) async fn next_page(&mut self) -> Result<Option<Vec<ListItem>>> {
        let Some(mut query) = self.query.take() else { return Ok(None) };
        query.limit = match self.store.info().capabilities.list {
            List::Native => Some(self.remaining.map_or(Self::PAGE_ITEMS, |remaining| remaining.min(Self::PAGE_ITEMS))),
            _ => self.remaining,
        };
        let mut page = self.store.list(&query).await?;
        if let Some(remaining) = &mut self.remaining {
            page.items.truncate(*remaining);
            *remaining -= page.items.len();
        }
        self.damaged += page.damaged.len() as u64;
        page.damaged.iter().for_each(report_damaged);
        if self.remaining != Some(0) {
            self.query = page.next.map(|next| query.resume(next));
        }
        Ok(Some(page.items))
    }

    /// Returns the number of damaged entries so far.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// Names a damaged entry on stderr.
fn report_damaged(error: &Error) {
    let key = error.key().map_or_else(|| "an entry".to_owned(), output::quoted);
    output::message(&format!("{key} is damaged and left out: {}", error.message()));
}
