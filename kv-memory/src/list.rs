//! Pages of a list.

use std::ops::Bound;

use kv_core::{Entry, Key, ListItem, ListPage, ListQuery, Result};

use crate::state::State;
use crate::yielding::BATCH;

/// The maximum number of keys that are read for one page. After this number, the page ends even if it has fewer items
/// than its limit, so that a call over many expired entries stays short.
const MAX_KEYS_READ: usize = 64 * BATCH;

impl State {
    /// Takes keys from the ordered index in batches and reads their entries. Holds no lock between two batches.
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.admit(1).await?;
        query.check(&self.info.capabilities)?;
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut page = ListPage::default();
        let Some((mut start, mut end)) = query.range() else { return Ok(page) };
        let (mut bytes, mut keys_read) = (0, 0);
        loop {
            // Request one key more than the page needs: if there is such a key, another page follows.
            let batch_size = BATCH.min((limit - page.items.len()).saturating_add(1));
            let range = (start.as_ref().map(String::as_str), end.as_ref().map(String::as_str));
            let keys = self.engine.order().keys_in(range, query.reverse, batch_size);
            let may_have_more = keys.len() == batch_size;
            let entries = self.read(&keys, query.keys_only).await;
            let mut found = keys.into_iter().zip(entries);
            let mut last = None;
            while let Some((key, entry)) = found.next() {
                keys_read += 1;
                if let Some(entry) = entry {
                    bytes += key.as_str().len() + entry.as_ref().map_or(0, |entry| entry.value.len());
                    page.items.push(ListItem { key: key.clone(), entry });
                }
                if page.items.len() >= limit || bytes >= query.max_page_bytes || keys_read >= MAX_KEYS_READ {
                    page.next = (may_have_more || found.len() > 0).then_some(key);
                    return Ok(page);
                }
                last = Some(key);
            }
            let Some(last) = last.filter(|_| may_have_more) else { return Ok(page) };
            let bound = Bound::Excluded(last.as_str().to_owned());
            if query.reverse {
                end = bound;
            } else {
                start = bound;
            }
        }
    }

    /// Returns one item for each key: `None` if the key has no live entry, `Some(None)` if `keys_only`, otherwise the
    /// entry.
    async fn read(&self, keys: &[Key], keys_only: bool) -> Vec<Option<Option<Entry>>> {
        if keys_only {
            let are_live = self.engine.contains_many(keys).await;
            return are_live.into_iter().map(|is_live| is_live.then_some(None)).collect();
        }
        self.engine.get_many(keys).await.into_iter().map(|entry| entry.map(Some)).collect()
    }
}
