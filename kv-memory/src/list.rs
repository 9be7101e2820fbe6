//! Listing and clearing a prefix, page by page.

use std::ops::Bound;

use kv_core::{Entry, Key, KeyPrefix, ListItem, ListPage, ListQuery, Result};

use crate::decide;
use crate::operations::Inner;
use crate::sweep::{BATCH, yield_now};

/// How many keys one page looks at. A page ends there also when what it found is less than asked for, so that a call stays
/// short among expired entries.
const MAX_LOOKS: usize = 64 * BATCH;

impl Inner {
    /// Takes keys from the order, some at a time, and looks them up: no lock is held from one to the other.
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut page = ListPage::default();
        let Some((mut start, mut end)) = query.range() else { return Ok(page) };
        let (mut bytes, mut looks) = (0, 0);
        loop {
            // One more than is wanted tells whether anything comes behind the page.
            let wanted = BATCH.min((limit - page.items.len()).saturating_add(1));
            let range = (start.as_ref().map(String::as_str), end.as_ref().map(String::as_str));
            let keys = self.engine.order().page(range, query.reverse, wanted);
            let may_have_more = keys.len() == wanted;
            let entries = self.look_up(&keys, query.keys_only).await;
            let mut found = keys.into_iter().zip(entries);
            let mut last = None;
            while let Some((key, entry)) = found.next() {
                looks += 1;
                if let Some(entry) = entry {
                    bytes += key.as_str().len() + entry.as_ref().map_or(0, |entry| entry.value.len());
                    page.items.push(ListItem { key: key.clone(), entry });
                }
                if page.items.len() >= limit || bytes >= query.max_page_bytes || looks >= MAX_LOOKS {
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

    /// What a list shows of each key: nothing, that it is there, or its entry.
    async fn look_up(&self, keys: &[Key], keys_only: bool) -> Vec<Option<Option<Entry>>> {
        if keys_only {
            let are_there = self.engine.contains_many(keys).await;
            return are_there.into_iter().map(|is_there| is_there.then_some(None)).collect();
        }
        self.engine.get_many(keys).await.into_iter().map(|entry| entry.map(Some)).collect()
    }

    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.check_open()?;
        let (first, end) = prefix.range();
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut count, mut after) = (0, None::<Key>);
        loop {
            let start = after.as_ref().map_or(Bound::Included(first), |after| Bound::Excluded(after.as_str()));
            // Keys that come behind the last one seen are met once, so that writers cannot keep this going for ever.
            let keys = self.engine.order().page((start, end), false, BATCH);
            for key in &keys {
                count += u64::from(self.engine.mutate(key, decide::clear).await);
            }
            match keys.last() {
                Some(last) => after = Some(last.clone()),
                None => return Ok(count),
            }
            yield_now().await;
        }
    }
}
