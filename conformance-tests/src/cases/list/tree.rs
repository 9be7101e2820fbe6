//! Keys for cases of `list`, and the keys among them that a query must return.

use kv_core::{Key, ListItem, ListQuery, SetItem};

use crate::cases::core::keys::segments;
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure_eq};

/// Keys that show mistakes in ranges and prefixes.
pub(in crate::cases) fn tree() -> Vec<Key> {
    in_order(vec![
        key([""]),
        key(["", "a"]),
        key(["A"]),
        key(["a"]),
        key(["a", ""]),
        key(["a", "b"]),
        key(["a", "b", "c"]),
        key(["a", "c"]),
        key(["a", "é"]),
        key(["a\0"]),
        key(["a "]),
        key(["a#"]),
        key(["a$"]),
        key(["a:b"]),
        key(["ab"]),
        key(["ab", "c"]),
        key(["b"]),
        key(["b", "a", "b"]),
        key(["z"]),
        key(["é"]),
        key(["\u{10ffff}"]),
        key(["\u{10ffff}", "a"]),
    ])
}

/// Writes each key with its own value.
pub(in crate::cases) async fn write(cx: &Context, keys: &[Key]) -> Verdict {
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), format!("value of {key}"))).collect();
    cx.set_many(&items).await
}

/// The keys in the order of the contract, which compares segments, not a joined text.
pub(in crate::cases) fn in_order(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by_cached_key(segments);
    keys
}

/// The keys that a query must return, computed segment by segment.
pub(in crate::cases) fn expected_keys(keys: &[Key], query: &ListQuery) -> Vec<Key> {
    let prefix: Vec<_> = query.prefix.segments().collect();
    let mut covered: Vec<Key> = keys
        .iter()
        .filter(|key| key.segments().take(prefix.len()).eq(prefix.iter().cloned()))
        .filter(|key| query.after.as_ref().is_none_or(|after| segments(key) > segments(after)))
        .filter(|key| query.before.as_ref().is_none_or(|before| segments(key) < segments(before)))
        .cloned()
        .collect();
    if query.reverse {
        covered.reverse();
    }
    covered
}

/// Fails unless `list` returns the [`expected_keys`] of a query.
pub(in crate::cases) async fn expect_list(cx: &Context, keys: &[Key], query: ListQuery) -> Verdict {
    let expected = expected_keys(keys, &query);
    ensure_eq!(keys_of(&cx.list_all(query.clone()).await?), expected, "the keys that `list` returned for {query:?}");
    Ok(())
}

pub(in crate::cases) fn keys_of(items: &[ListItem]) -> Vec<Key> {
    items.iter().map(|item| item.key.clone()).collect()
}
