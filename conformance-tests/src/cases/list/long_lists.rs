//! `list` and `clear` where a store easily ends them too early: after expired entries, beyond U+FFFF, with long keys.

use std::time::Duration;

use kv_core::{Capability, Expiry, Key, KeyPrefix, KvStore, ListItem, ListQuery, SetItem, SetOptions};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure_eq};

const LIST: Need = Need::Has(Capability::List);
const KEEPS_ALL: Need = Need::KeepsAll;

const TTL: Duration = Duration::from_millis(300);

cases! { long_lists, List:
    behind_expired_entries: "L-1" [LIST, KEEPS_ALL] "`list` returns the live entries on both sides of 1,200 expired entries, in either direction and with any limit";
    clear_behind_expired_entries: "L-5" [LIST, KEEPS_ALL] "`clear` removes and counts the live entries on both sides of 1,200 expired entries";
    beyond_ffff: "L-1" [LIST] "`list` of a prefix returns children with characters beyond U+FFFF, in either direction and in pages";
    clear_beyond_ffff: "L-5" [LIST] "`clear` of a prefix removes children with characters beyond U+FFFF";
    long_beginnings: "K-3" [LIST] "keys that differ only after hundreds of equal bytes are listed in order, in either direction and in pages";
    long_beginnings_are_cleared: "L-5" [LIST] "`clear` of a prefix of hundreds of bytes leaves other keys that begin with the same bytes";
    thousands_reversed: "L-1" [LIST, KEEPS_ALL] "a reversed `list` returns thousands of keys, without a silent limit";
    thousands_of_values: "L-1" [LIST, KEEPS_ALL] "`list` returns thousands of entries with their values, without a silent limit";
    pages_are_full: "L-3" [LIST, KEEPS_ALL] "a page of small entries has as many items as the limit if the list is longer";
    thousands_below_a_prefix: "L-1" [LIST, KEEPS_ALL] "`list` of a prefix between two bounds returns thousands of keys in either direction";
}

/// Writes one live entry whose key comes before 1,200 expired entries and one whose key comes after them. Returns the
/// live keys.
async fn write_around_expired(cx: &Context) -> Result<[Key; 2], Failure> {
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    let expired = |number: u64| SetItem::new(key(["p", "b", &Key::ordered(number)]), "v").with_options(options.clone());
    cx.set_many(&(0..1_200).map(expired).collect::<Vec<_>>()).await?;
    let live = [key(["p", "a"]), key(["p", "c"])];
    for key in &live {
        cx.set(key, "v").await?;
    }
    cx.advance_past(TTL).await;
    Ok(live)
}

/// Fails unless lists of the prefix return these keys in both directions, with these limits, with values and without.
async fn expect_listed(cx: &Context, prefix: &Key, keys: &[Key], limits: &[usize]) -> Verdict {
    for limit in limits.iter().copied().map(Some).chain([None]) {
        for reverse in [false, true] {
            for keys_only in [false, true] {
                let mut query = ListQuery::new(prefix);
                (query.limit, query.reverse, query.keys_only) = (limit, reverse, keys_only);
                let mut listed: Vec<Key> =
                    cx.list_all(query.clone()).await?.into_iter().map(|ListItem { key, .. }| key).collect();
                if reverse {
                    listed.reverse();
                }
                ensure_eq!(listed, keys, "the keys, in order, that `list` returned for {query:?}");
            }
        }
    }
    Ok(())
}

async fn behind_expired_entries(cx: Context) -> Verdict {
    let live = write_around_expired(&cx).await?;
    expect_listed(&cx, &key(["p"]), &live, &[1, 2, 100]).await
}

async fn clear_behind_expired_entries(cx: Context) -> Verdict {
    let [first, last] = write_around_expired(&cx).await?;
    cx.delete(&first).await?;
    ensure_eq!(cx.store().clear(&key(["p"]).into()).await?, 1, "the number of entries that `clear` returned");
    cx.expect_absent(&last).await
}

/// The children of `p` around the end of the Basic Multilingual Plane, in order.
fn wide_children() -> [Key; 6] {
    ["a", "\u{d7ff}", "\u{ffff}", "\u{10000}", "\u{1f980}", "\u{10ffff}"].map(|child| key(["p", child]))
}

async fn beyond_ffff(cx: Context) -> Verdict {
    let children = wide_children();
    for key in &children {
        cx.set(key, "v").await?;
    }
    // Siblings on both sides of the prefix.
    cx.set(["o", "\u{10ffff}"], "v").await?;
    cx.set(["p\u{10ffff}"], "v").await?;
    expect_listed(&cx, &key(["p"]), &children, &[1, 2, 4]).await?;
    let before = ListQuery::new(key(["p"])).with_before(key(["p", "\u{10ffff}", "x"])).with_reverse().with_limit(1);
    let last = cx.store().list(&before).await?.items.into_iter().next().map(|item| item.key);
    ensure_eq!(last, Some(key(["p", "\u{10ffff}"])), "the first key that `list` returned for {before:?}");
    Ok(())
}

async fn clear_beyond_ffff(cx: Context) -> Verdict {
    let sibling = key(["p\u{10ffff}"]);
    for key in wide_children().iter().chain([&sibling]) {
        cx.set(key, "v").await?;
    }
    ensure_eq!(cx.store().clear(&key(["p"]).into()).await?, 6, "the number of entries that `clear` returned");
    ensure_eq!(cx.keys(()).await?, [sibling], "the keys that `list` returned after `clear` of a prefix");
    Ok(())
}

/// Keys that begin with the same `length` bytes, in order.
fn long_keys(length: usize) -> Vec<Key> {
    let beginning = "x".repeat(length);
    (0..20).map(|number: u64| key(["p", &format!("{beginning}{number:04}")])).collect()
}

async fn long_beginnings(cx: Context) -> Verdict {
    for length in [250, 500, 520, 1_030, 1_900] {
        let keys = long_keys(length);
        let items: Vec<_> = keys.iter().rev().map(|key| SetItem::new(key.clone(), key.to_string())).collect();
        cx.set_many(&items).await?;
        expect_listed(&cx, &key(["p"]), &keys, &[1, 3, 19]).await?;
        cx.clean_up().await?;
    }
    Ok(())
}

async fn long_beginnings_are_cleared(cx: Context) -> Verdict {
    for length in [250, 520, 1_030, 1_900] {
        let keys = long_keys(length);
        for key in &keys {
            cx.set(key, "v").await?;
        }
        let Some((own, others)) = keys.split_first() else { continue };
        let child = own.child("child")?;
        cx.set(&child, "v").await?;
        let cleared = cx.store().clear(&KeyPrefix::from(own)).await?;
        ensure_eq!(cleared, 2, "the number of entries that `clear` of a key with a child returned");
        ensure_eq!(cx.keys(["p"]).await?, others, "the keys that `list` returned after `clear` of the first key");
        cx.clean_up().await?;
    }
    Ok(())
}

/// The number of keys in the cases with thousands of keys.
const MANY: u64 = 2_500;

/// Writes many keys under `p`, and returns them in order.
async fn write_many(cx: &Context) -> Result<Vec<Key>, Failure> {
    let keys: Vec<Key> = (0..MANY).map(|number| key(["p", &Key::ordered(number)])).collect();
    cx.set_many(&keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect::<Vec<_>>()).await?;
    Ok(keys)
}

async fn expect_many(cx: &Context, query: ListQuery, expected: &[Key]) -> Verdict {
    let listed = cx.list_all(query.clone()).await?;
    ensure_eq!(listed.len(), expected.len(), "the number of keys that `list` returned for {query:?}");
    let mut keys: Vec<Key> = listed.into_iter().map(|item| item.key).collect();
    if query.reverse {
        keys.reverse();
    }
    ensure_eq!(keys, expected, "the keys, in order, that `list` returned for {query:?}");
    Ok(())
}

async fn thousands_reversed(cx: Context) -> Verdict {
    let keys = write_many(&cx).await?;
    expect_many(&cx, ListQuery::default().with_reverse().with_keys_only(), &keys).await?;
    expect_many(&cx, ListQuery::default().with_reverse(), &keys).await
}

async fn thousands_of_values(cx: Context) -> Verdict {
    let keys = write_many(&cx).await?;
    expect_many(&cx, ListQuery::default(), &keys).await?;
    expect_many(&cx, ListQuery::default().with_limit(2_400), &keys).await
}

async fn pages_are_full(cx: Context) -> Verdict {
    write_many(&cx).await?;
    for limit in [999, 1_001, 2_400] {
        for (reverse, keys_only) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut query = ListQuery::new(key(["p"])).with_limit(limit);
            (query.reverse, query.keys_only) = (reverse, keys_only);
            let page = cx.store().list(&query).await?;
            ensure_eq!(page.items.len(), limit, "the number of items in the page that `list` returned for {query:?}");
        }
    }
    Ok(())
}

async fn thousands_below_a_prefix(cx: Context) -> Verdict {
    let keys = write_many(&cx).await?;
    let bound = |number| key(["p", &Key::ordered(number)]);
    let query = ListQuery::new(key(["p"])).with_after(bound(9)).with_before(bound(MANY - 10));
    let between = keys.get(10..keys.len() - 10).unwrap_or_default();
    expect_many(&cx, query.clone(), between).await?;
    expect_many(&cx, query.with_reverse(), between).await
}
