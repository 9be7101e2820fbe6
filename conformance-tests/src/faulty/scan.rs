//! Lists that read everything, for broken stores that change the result of a list.

use kv_core::{Key, KeyPrefix, KvStore, ListItem, ListPage, ListQuery, Result};

/// Reads all pages of a prefix and returns their items.
pub(super) async fn list_all(store: &dyn KvStore, prefix: &KeyPrefix, keys_only: bool) -> Result<Vec<ListItem>> {
    let mut query = ListQuery::new(prefix.clone());
    query.keys_only = keys_only;
    let mut items = Vec::new();
    loop {
        let page = store.list(&query).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => query = query.resume(next),
            None => return Ok(items),
        }
    }
}

/// Returns the page of a query over these items. Ignores the prefix of the query: `covers` selects the keys.
pub(super) fn page(mut items: Vec<ListItem>, query: &ListQuery, covers: impl Fn(&Key) -> bool) -> ListPage {
    items.retain(|ListItem { key, .. }| {
        covers(key)
            && query.after.as_ref().is_none_or(|after| key > after)
            && query.before.as_ref().is_none_or(|before| key < before)
    });
    items.sort_by(|one, other| one.key.cmp(&other.key));
    if query.reverse {
        items.reverse();
    }
    let mut bytes = 0;
    let fits = items
        .iter()
        .take(query.limit.unwrap_or(usize::MAX))
        .take_while(|item| {
            let has_room = bytes == 0 || bytes < query.max_page_bytes;
            bytes += item.entry.as_ref().map_or(0, |entry| entry.value.len());
            has_room
        })
        .count();
    let is_whole = fits == items.len();
    items.truncate(fits);
    let next = items.last().filter(|_| !is_whole).map(|item| item.key.clone());
    ListPage { items, next, ..ListPage::default() }
}

/// Removes all keys that `covers` accepts, and returns their number.
pub(super) async fn clear(store: &dyn KvStore, covers: impl Fn(&Key) -> bool) -> Result<u64> {
    let listed = list_all(store, &KeyPrefix::ALL, true).await?;
    let keys: Vec<Key> = listed.into_iter().map(|item| item.key).filter(covers).collect();
    let mut removed = 0;
    for outcome in store.delete_many(&keys).await {
        removed += u64::from(outcome?.is_deleted());
    }
    Ok(removed)
}
