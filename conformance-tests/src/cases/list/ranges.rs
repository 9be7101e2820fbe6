//! `list` between two bounds.

use kv_core::{Capability, Key, KeyPrefix, ListQuery};

use super::tree::{expect_list, in_order, tree, write};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::Verdict;

cases! { ranges, List:
    after_is_exclusive: "L-1" [Need::Has(Capability::List)] "`list` with `after` begins after that key";
    before_is_exclusive: "L-1" [Need::Has(Capability::List)] "`list` with `before` ends before that key";
    bounds_need_not_exist: "L-1" [Need::Has(Capability::List)] "a bound may be a key that was never written";
    a_parent_and_its_children: "K-3" [Need::Has(Capability::List)] "`list` with `after` at a parent returns the parent's children, and with `before` at the parent does not";
    the_first_and_the_last: "L-1" [Need::Has(Capability::List)] "`list` after the first key or before the last key omits that key, and returns nothing on the other side of it";
    start_at_end: "L-1" [Need::Has(Capability::List)] "`list` returns nothing if `after` and `before` are the same key";
    start_behind_end: "L-1" [Need::Has(Capability::List)] "`list` returns nothing if `before` precedes `after` in key order";
    never_widen_the_prefix: "L-1" [Need::Has(Capability::List)] "with bounds outside the prefix, `list` returns nothing outside the prefix";
    outside_the_prefix: "L-1" [Need::Has(Capability::List)] "with bounds that exclude the whole prefix, `list` returns nothing";
    every_combination: "L-1" [Need::Has(Capability::List)] "for every prefix and every pair of bounds, `list` returns exactly the keys of the prefix between the bounds";
    every_combination_reversed: "L-1" [Need::Has(Capability::List)] "for every prefix and every pair of bounds, a reversed `list` returns the same keys in reverse order";
    every_combination_in_pages: "L-1" [Need::Has(Capability::List)] "bounds apply to every page, not only to the first page";
}

async fn after_is_exclusive(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for after in &keys {
        expect_list(&cx, &keys, ListQuery::default().with_after(after.clone())).await?;
    }
    Ok(())
}

async fn before_is_exclusive(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for before in &keys {
        expect_list(&cx, &keys, ListQuery::default().with_before(before.clone())).await?;
    }
    Ok(())
}

async fn bounds_need_not_exist(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for bound in missing_bounds() {
        expect_list(&cx, &keys, ListQuery::default().with_after(bound.clone())).await?;
        expect_list(&cx, &keys, ListQuery::default().with_before(bound.clone())).await?;
        expect_list(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_reverse()).await?;
        expect_list(&cx, &keys, ListQuery::default().with_before(bound).with_reverse()).await?;
    }
    Ok(())
}

async fn a_parent_and_its_children(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    expect_list(&cx, &keys, ListQuery::new(key(["a"])).with_after(key(["a"]))).await?;
    expect_list(&cx, &keys, ListQuery::new(key(["a"])).with_before(key(["a"]))).await?;
    expect_list(&cx, &keys, ListQuery::default().with_before(key(["a"]))).await?;
    expect_list(&cx, &keys, ListQuery::new(key(["a"])).with_after(key(["a", "b"]))).await
}

async fn the_first_and_the_last(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for bound in keys.first().into_iter().chain(keys.last()) {
        expect_list(&cx, &keys, ListQuery::default().with_after(bound.clone())).await?;
        expect_list(&cx, &keys, ListQuery::default().with_before(bound.clone())).await?;
    }
    expect_list(&cx, &keys, ListQuery::default().with_after(key([""])).with_before(key(["\u{10ffff}", "z"]))).await
}

async fn start_at_end(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for bound in keys.iter().cloned().chain(missing_bounds()) {
        expect_list(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_before(bound.clone())).await?;
        expect_list(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_before(bound).with_reverse())
            .await?;
    }
    Ok(())
}

async fn start_behind_end(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for (after, before) in [(key(["z"]), key(["a"])), (key(["a", "c"]), key(["a", "b"])), (key(["a", ""]), key(["a"]))]
    {
        let query = ListQuery::default().with_after(after).with_before(before);
        expect_list(&cx, &keys, query.clone()).await?;
        expect_list(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn never_widen_the_prefix(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    let query = ListQuery::new(key(["a"])).with_after(key([""])).with_before(key(["z"]));
    expect_list(&cx, &keys, query.clone()).await?;
    expect_list(&cx, &keys, query.clone().with_reverse()).await?;
    expect_list(&cx, &keys, query.clone().with_limit(2)).await?;
    expect_list(&cx, &keys, query.with_limit(2).with_reverse()).await
}

async fn outside_the_prefix(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for query in [ListQuery::new(key(["a"])).with_after(key(["b"])), ListQuery::new(key(["a"])).with_before(key(["A"]))]
    {
        expect_list(&cx, &keys, query.clone()).await?;
        expect_list(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn every_combination(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for query in combinations() {
        expect_list(&cx, &keys, query).await?;
    }
    Ok(())
}

async fn every_combination_reversed(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for query in combinations() {
        expect_list(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn every_combination_in_pages(cx: Context) -> Verdict {
    let keys = write_tree(&cx).await?;
    for (at, query) in combinations().into_iter().enumerate() {
        let query = query.with_limit(1 + at % 3);
        expect_list(&cx, &keys, if at % 2 == 0 { query } else { query.with_reverse() }).await?;
    }
    Ok(())
}

/// Writes the keys and returns them in order.
async fn write_tree(cx: &Context) -> Result<Vec<Key>, crate::failure::Failure> {
    let keys = tree();
    write(cx, &keys).await?;
    Ok(keys)
}

/// Bounds that are not keys of the tree: between, before and after the keys of the tree.
fn missing_bounds() -> Vec<Key> {
    in_order(vec![
        key(["", ""]),
        key(["0"]),
        key(["a", "a"]),
        key(["a", "b", ""]),
        key(["a", "b", "d"]),
        key(["a", "z", "z"]),
        key(["a!"]),
        key(["aa"]),
        key(["ab", ""]),
        key(["y"]),
        key(["\u{10ffff}", "z"]),
    ])
}

/// Every prefix with zero, one or two bounds: existing and missing keys, inside and outside the prefix, in both orders.
fn combinations() -> Vec<ListQuery> {
    let prefixes = [KeyPrefix::ALL, key(["a"]).into(), key(["a", "b"]).into(), key([""]).into(), key(["none"]).into()];
    let bound_keys =
        [key([""]), key(["a"]), key(["a", "a"]), key(["a", "b"]), key(["a", "b", "c"]), key(["ab"]), key(["z", "z"])];
    let bounds: Vec<Option<Key>> = std::iter::once(None).chain(bound_keys.into_iter().map(Some)).collect();
    let mut queries = Vec::new();
    for prefix in prefixes {
        for after in &bounds {
            for before in &bounds {
                let mut query = ListQuery::new(prefix.clone()).with_keys_only();
                query.after.clone_from(after);
                query.before.clone_from(before);
                queries.push(query);
            }
        }
    }
    queries
}
