//! The part of a prefix between two bounds.

use kv_core::{Capability, Key, KeyPrefix, ListQuery};

use super::list::{in_order, lists, tree, write};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::Verdict;

cases! { ranges, List:
    after_is_exclusive: "L-1" [Need::Has(Capability::List)] "a list after a key begins behind it";
    before_is_exclusive: "L-1" [Need::Has(Capability::List)] "a list before a key ends in front of it";
    bounds_need_not_exist: "L-1" [Need::Has(Capability::List)] "a bound may be a key that was never written";
    a_parent_and_its_children: "K-3" [Need::Has(Capability::List)] "after a parent come its children, and before a parent none of them";
    the_first_and_the_last: "L-1" [Need::Has(Capability::List)] "bounds at the ends of everything leave all, all but one, or nothing";
    start_at_end: "L-1" [Need::Has(Capability::List)] "bounds that are equal leave nothing";
    start_behind_end: "L-1" [Need::Has(Capability::List)] "bounds in the wrong order leave nothing";
    never_widen_the_prefix: "L-1" [Need::Has(Capability::List)] "bounds outside the prefix list nothing outside it";
    outside_the_prefix: "L-1" [Need::Has(Capability::List)] "bounds on the far side of the prefix leave nothing";
    every_combination: "L-1" [Need::Has(Capability::List)] "every prefix with every pair of bounds lists exactly what lies between";
    every_combination_reversed: "L-1" [Need::Has(Capability::List)] "every prefix with every pair of bounds lists the same from its end";
    every_combination_in_pages: "L-1" [Need::Has(Capability::List)] "bounds hold on every page, not on the first alone";
}

async fn after_is_exclusive(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for after in &keys {
        lists(&cx, &keys, ListQuery::default().with_after(after.clone())).await?;
    }
    Ok(())
}

async fn before_is_exclusive(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for before in &keys {
        lists(&cx, &keys, ListQuery::default().with_before(before.clone())).await?;
    }
    Ok(())
}

async fn bounds_need_not_exist(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for bound in strangers() {
        lists(&cx, &keys, ListQuery::default().with_after(bound.clone())).await?;
        lists(&cx, &keys, ListQuery::default().with_before(bound.clone())).await?;
        lists(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_reverse()).await?;
        lists(&cx, &keys, ListQuery::default().with_before(bound).with_reverse()).await?;
    }
    Ok(())
}

async fn a_parent_and_its_children(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    lists(&cx, &keys, ListQuery::new(key(["a"])).with_after(key(["a"]))).await?;
    lists(&cx, &keys, ListQuery::new(key(["a"])).with_before(key(["a"]))).await?;
    lists(&cx, &keys, ListQuery::default().with_before(key(["a"]))).await?;
    lists(&cx, &keys, ListQuery::new(key(["a"])).with_after(key(["a", "b"]))).await
}

async fn the_first_and_the_last(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for bound in keys.first().into_iter().chain(keys.last()) {
        lists(&cx, &keys, ListQuery::default().with_after(bound.clone())).await?;
        lists(&cx, &keys, ListQuery::default().with_before(bound.clone())).await?;
    }
    lists(&cx, &keys, ListQuery::default().with_after(key([""])).with_before(key(["\u{10ffff}", "z"]))).await
}

async fn start_at_end(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for bound in keys.iter().cloned().chain(strangers()) {
        lists(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_before(bound.clone())).await?;
        lists(&cx, &keys, ListQuery::default().with_after(bound.clone()).with_before(bound).with_reverse()).await?;
    }
    Ok(())
}

async fn start_behind_end(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for (after, before) in [(key(["z"]), key(["a"])), (key(["a", "c"]), key(["a", "b"])), (key(["a", ""]), key(["a"]))]
    {
        let query = ListQuery::default().with_after(after).with_before(before);
        lists(&cx, &keys, query.clone()).await?;
        lists(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn never_widen_the_prefix(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    let query = ListQuery::new(key(["a"])).with_after(key([""])).with_before(key(["z"]));
    lists(&cx, &keys, query.clone()).await?;
    lists(&cx, &keys, query.clone().with_reverse()).await?;
    lists(&cx, &keys, query.clone().with_limit(2)).await?;
    lists(&cx, &keys, query.with_limit(2).with_reverse()).await
}

async fn outside_the_prefix(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for query in [ListQuery::new(key(["a"])).with_after(key(["b"])), ListQuery::new(key(["a"])).with_before(key(["A"]))]
    {
        lists(&cx, &keys, query.clone()).await?;
        lists(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn every_combination(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for query in combinations() {
        lists(&cx, &keys, query).await?;
    }
    Ok(())
}

async fn every_combination_reversed(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for query in combinations() {
        lists(&cx, &keys, query.with_reverse()).await?;
    }
    Ok(())
}

async fn every_combination_in_pages(cx: Context) -> Verdict {
    let keys = prepared(&cx).await?;
    for (at, query) in combinations().into_iter().enumerate() {
        let query = query.with_limit(1 + at % 3);
        lists(&cx, &keys, if at % 2 == 0 { query } else { query.with_reverse() }).await?;
    }
    Ok(())
}

/// Writes the keys and gives them in order.
async fn prepared(cx: &Context) -> Result<Vec<Key>, crate::failure::Failure> {
    let keys = tree();
    write(cx, &keys).await?;
    Ok(keys)
}

/// Bounds that are no keys of the tree, between, before and behind them.
fn strangers() -> Vec<Key> {
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

/// Every prefix with no bound, one, or two: there and not, inside and outside, in order and not.
fn combinations() -> Vec<ListQuery> {
    let prefixes = [KeyPrefix::ALL, key(["a"]).into(), key(["a", "b"]).into(), key([""]).into(), key(["none"]).into()];
    let marks =
        [key([""]), key(["a"]), key(["a", "a"]), key(["a", "b"]), key(["a", "b", "c"]), key(["ab"]), key(["z", "z"])];
    let bounds: Vec<Option<Key>> = std::iter::once(None).chain(marks.into_iter().map(Some)).collect();
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
