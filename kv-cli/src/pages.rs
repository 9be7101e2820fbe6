//! Lists longer than a page.

use std::sync::Arc;

use anykv::{KvStore, List, ListItem, ListQuery, Result};

/// The pages of a list, one after the other, in memory one at a time.
pub(crate) struct Pages {
    store: Arc<dyn KvStore>,
    query: Option<ListQuery>,
    /// How many items are still wanted.
    wanted: Option<usize>,
}

impl Pages {
    /// Items a page where the list is by index; a store that must scan gives pages as long as it can instead.
    const PAGE_ITEMS: usize = 1_000;

    /// The pages of `query`, whose limit is that of the whole list.
    pub(crate) fn new(store: Arc<dyn KvStore>, mut query: ListQuery) -> Self {
        let wanted = query.limit.take();
        Self { store, query: Some(query), wanted }
    }

    /// The next items; none are left at `None`. A page may be empty.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ListItem>>> {
        let Some(mut query) = self.query.take() else { return Ok(None) };
        query.limit = match self.store.info().capabilities.list {
            List::Native => Some(self.wanted.map_or(Self::PAGE_ITEMS, |wanted| wanted.min(Self::PAGE_ITEMS))),
            _ => self.wanted,
        };
        let mut page = self.store.list(&query).await?;
        if let Some(wanted) = &mut self.wanted {
            page.items.truncate(*wanted);
            *wanted -= page.items.len();
        }
        if self.wanted != Some(0) {
            self.query = page.next.map(|next| query.resume(next));
        }
        Ok(Some(page.items))
    }
}
