//! `list` in pages.

use kv_core::{Capability, Key, KvStore, ListQuery};

use super::tree::{expect_list, expected_keys, keys_of, tree, write};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { pages, List:
    of_every_size: "L-1" [Need::Has(Capability::List)] "pages of 1, 2, 3, n-1, n and n+1 keys return every key once";
    of_every_size_reversed: "L-1" [Need::Has(Capability::List)] "reversed pages of every size return every key once";
    hold_at_most_the_limit: "L-3" [Need::Has(Capability::List)] "no page has more items than the limit";
    a_limit_beyond_everything: "L-1" [Need::Has(Capability::List)] "a limit larger than the number of keys, up to `usize::MAX`, returns all keys";
    resume_after_a_deleted_key: "L-1" [Need::Has(Capability::List)] "`list` resumes after the last key of a page, even if that key was deleted";
    resume_sees_what_came: "L-2" [Need::Has(Capability::List)] "a resumed `list` returns new keys after its position, and no new key before its position";
    resume_after_everything_went: "L-1" [Need::Has(Capability::List)] "a `list` that resumes after the store was cleared returns nothing more";
    end_at_their_bytes: "L-3" [Need::Has(Capability::List)] "a page ends when its values reach `max_page_bytes`";
    one_large_value_is_a_page: "L-3" [Need::Has(Capability::List)] "a value larger than `max_page_bytes` is returned";
    of_bytes_reversed: "L-3" [Need::Has(Capability::List)] "reversed pages end at `max_page_bytes`";
    of_bytes_and_limits: "L-3" [Need::Has(Capability::List)] "a page ends at `limit` or at `max_page_bytes`, whichever it reaches first";
    by_default_have_an_end: "L-3" [Need::Has(Capability::List), Need::KeepsAll] "with the default `max_page_bytes`, many mebibytes are not returned as one page";
}

async fn of_every_size(cx: Context) -> Verdict {
    every_size(&cx, &ListQuery::default()).await?;
    every_size(&cx, &ListQuery::new(key(["a"])).with_keys_only()).await
}

async fn of_every_size_reversed(cx: Context) -> Verdict {
    every_size(&cx, &ListQuery::default().with_reverse()).await?;
    every_size(&cx, &ListQuery::new(key(["a"])).with_reverse().with_keys_only()).await
}

async fn every_size(cx: &Context, query: &ListQuery) -> Verdict {
    let keys = tree();
    write(cx, &keys).await?;
    let all = expected_keys(&keys, query).len();
    for size in [1, 2, 3, all - 1, all, all + 1] {
        expect_list(cx, &keys, query.clone().with_limit(size)).await?;
    }
    Ok(())
}

async fn hold_at_most_the_limit(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    for limit in [1, 2, 5, keys.len()] {
        let mut query = ListQuery::default().with_limit(limit);
        loop {
            let page = cx.store().list(&query).await?;
            ensure!(
                page.items.len() <= limit,
                "`list` with a limit of {limit} returned a page of {} items",
                page.items.len()
            );
            let Some(next) = page.next else { break };
            query = query.resume(next);
        }
    }
    Ok(())
}

async fn a_limit_beyond_everything(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    for limit in [1_000, usize::from(u16::MAX) + 1, usize::MAX / 2, usize::MAX - 1, usize::MAX] {
        expect_list(&cx, &keys, ListQuery::default().with_limit(limit)).await?;
    }
    expect_list(&cx, &keys, ListQuery::default().with_max_page_bytes(usize::MAX)).await
}

async fn resume_after_a_deleted_key(cx: Context) -> Verdict {
    let keys = tree();
    for reverse in [false, true] {
        write(&cx, &keys).await?;
        let mut query = ListQuery::default().with_limit(3);
        query.reverse = reverse;
        let expected = expected_keys(&keys, &query);
        let mut found = Vec::new();
        loop {
            let page = cx.store().list(&query).await?;
            found.extend(keys_of(&page.items));
            for item in &page.items {
                cx.delete(&item.key).await?;
            }
            let Some(next) = page.next else { break };
            cx.delete(&next).await?;
            query = query.resume(next);
        }
        ensure_eq!(found, expected, "the keys that `list` returned while each page was deleted");
    }
    Ok(())
}

async fn resume_sees_what_came(cx: Context) -> Verdict {
    for name in ["b", "d", "f", "h"] {
        cx.set(["k", name], "v").await?;
    }
    let query = ListQuery::new(key(["k"])).with_limit(2);
    let mut first = Vec::new();
    let mut page = cx.store().list(&query).await?;
    let rest = loop {
        first.extend(keys_of(&page.items));
        match page.next {
            Some(next) if first.len() >= 2 => break query.resume(next),
            Some(next) => page = cx.store().list(&query.clone().resume(next)).await?,
            None => {
                return Err(crate::failure::Failure::new(
                    "`list` of four keys in pages of two ended before the second page",
                ));
            }
        }
    };
    ensure_eq!(first, [key(["k", "b"]), key(["k", "d"])], "the keys of the first page that `list` returned");
    for name in ["a", "c", "e", "z"] {
        cx.set(["k", name], "v").await?;
    }
    cx.delete(["k", "f"]).await?;
    let listed = keys_of(&cx.list_all(rest).await?);
    ensure_eq!(
        listed,
        [key(["k", "e"]), key(["k", "h"]), key(["k", "z"])],
        "the keys that the resumed `list` returned"
    );
    Ok(())
}

async fn resume_after_everything_went(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let query = ListQuery::default().with_limit(2);
    let page = cx.store().list(&query).await?;
    cx.store().clear(&kv_core::KeyPrefix::ALL).await?;
    if let Some(next) = page.next {
        ensure_eq!(
            cx.list_all(query.resume(next)).await?,
            [],
            "the items that the resumed `list` returned after `clear`"
        );
    }
    Ok(())
}

/// Writes twenty values of 1,000 bytes and returns their keys.
async fn write_twenty_values(cx: &Context) -> Result<Vec<Key>, crate::failure::Failure> {
    let keys: Vec<Key> = (0..20).map(|at| key(["k", &format!("{at:02}")])).collect();
    for key in &keys {
        cx.set(key, vec![b'x'; 1_000]).await?;
    }
    Ok(keys)
}

/// Fails unless each page ends when its values reach `max_page_bytes`, and all pages together are the expected list.
async fn expect_pages_within_bytes(cx: &Context, query: ListQuery, expected: &[Key]) -> Verdict {
    let (mut query, mut found) = (query, Vec::new());
    loop {
        let page = cx.store().list(&query).await?;
        let sizes: Vec<usize> = page.items.iter().filter_map(|item| Some(item.entry.as_ref()?.value.len())).collect();
        ensure_eq!(sizes.len(), page.items.len(), "the number of items of a page that have entries");
        // The last item of a page may be the item that reaches `max_page_bytes`.
        let all_but_last: usize = sizes.iter().rev().skip(1).sum();
        ensure!(
            all_but_last < query.max_page_bytes.max(1),
            "`list` with `max_page_bytes` of {} returned a page with values of {sizes:?} bytes",
            query.max_page_bytes
        );
        ensure!(
            query.limit.is_none_or(|limit| sizes.len() <= limit),
            "`list` with a limit of {:?} returned a page of {} items",
            query.limit,
            sizes.len()
        );
        found.extend(keys_of(&page.items));
        ensure!(found.len() <= expected.len(), "`list` returned more keys than exist");
        let Some(next) = page.next else { break };
        query = query.resume(next);
    }
    ensure_eq!(found, expected, "the keys of all pages that `list` returned");
    Ok(())
}

async fn end_at_their_bytes(cx: Context) -> Verdict {
    let keys = write_twenty_values(&cx).await?;
    for bytes in [1, 999, 1_000, 1_001, 3_500, 19_999, 20_000, 1 << 20] {
        expect_pages_within_bytes(&cx, ListQuery::new(key(["k"])).with_max_page_bytes(bytes), &keys).await?;
    }
    Ok(())
}

async fn one_large_value_is_a_page(cx: Context) -> Verdict {
    let keys = [key(["a"]), key(["b"]), key(["c"])];
    for key in &keys {
        cx.set(key, vec![b'x'; 100_000]).await?;
    }
    for bytes in [0, 1, 50_000] {
        expect_pages_within_bytes(&cx, ListQuery::default().with_max_page_bytes(bytes), &keys).await?;
    }
    Ok(())
}

async fn of_bytes_reversed(cx: Context) -> Verdict {
    let mut keys = write_twenty_values(&cx).await?;
    keys.reverse();
    for bytes in [1, 1_000, 3_500] {
        expect_pages_within_bytes(&cx, ListQuery::new(key(["k"])).with_max_page_bytes(bytes).with_reverse(), &keys)
            .await?;
    }
    Ok(())
}

async fn of_bytes_and_limits(cx: Context) -> Verdict {
    let keys = write_twenty_values(&cx).await?;
    for (bytes, limit) in [(3_500, 2), (3_500, 10), (1, 7), (1 << 20, 7)] {
        expect_pages_within_bytes(&cx, ListQuery::new(key(["k"])).with_max_page_bytes(bytes).with_limit(limit), &keys)
            .await?;
    }
    Ok(())
}

async fn by_default_have_an_end(cx: Context) -> Verdict {
    let keys: Vec<Key> = (0..12).map(|at| key(["k", &format!("{at:02}")])).collect();
    for key in &keys {
        cx.set(key, vec![b'x'; 1 << 20]).await?;
    }
    expect_pages_within_bytes(&cx, ListQuery::new(key(["k"])), &keys).await
}
