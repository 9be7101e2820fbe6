//! What a list holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capability, Key, KeyPrefix, KvStore, ListItem, ListQuery, SetItem};

use super::keys::segments;
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { list, List:
    of_nothing: "L-1" [Need::Has(Capability::List)] "an empty store lists nothing";
    everything: "L-1" [Need::Has(Capability::List)] "the empty prefix lists every key, in order";
    the_prefix_key_and_below: "L-1" [Need::Has(Capability::List)] "a prefix lists its own key, its children and their children";
    whole_segments_only: "K-4" [Need::Has(Capability::List)] "a prefix is whole segments: [a] lists neither [ab] nor [a b]";
    of_no_match: "L-1" [Need::Has(Capability::List)] "a prefix that nothing starts with lists nothing";
    deep_prefixes: "K-4" [Need::Has(Capability::List)] "a prefix of several segments lists what starts with all of them";
    the_empty_segment_is_not_everything: "K-4" [Need::Has(Capability::List)] "the prefix [\"\"] lists [\"\"] and below, the empty prefix lists all";
    patterns_mean_nothing: "L-4" [Need::Has(Capability::List)] "characters of glob, LIKE and regular expressions in a prefix match themselves";
    dangerous_prefixes: "K-6" [Need::Has(Capability::List)] "every prefix of dangerous segments lists exactly what starts with it";
    reversed: "L-1" [Need::Has(Capability::List)] "a reversed list is the list from its end to its beginning";
    shows_what_get_shows: "L-1" [Need::Has(Capability::List)] "each listed entry is the one that get gives: value, version and deadline";
    keys_only: "L-1" [Need::Has(Capability::List)] "keys alone come without entries, and are the same keys";
    sees_each_write: "G-2" [Need::Has(Capability::List)] "every write is in the next list";
    ten_thousand: "L-1" [Need::Has(Capability::List), Need::KeepsAll] "10,000 keys are listed, each once and in order: there is no silent cap";
    a_hundred_thousand: "L-3" [Need::Has(Capability::List), Need::KeepsAll] "a list among 100,000 keys reaches the last of them, and a small prefix among them is exact";
    during_writes: "L-2" [Need::Has(Capability::List), Need::KeepsAll]
        "what is there all the time appears exactly once, whatever is written and deleted meanwhile";
    during_writes_reversed: "L-2" [Need::Has(Capability::List), Need::KeepsAll]
        "a reversed list, too, has each steady key exactly once while others come and go";
    two_at_once: "L-1" [Need::Has(Capability::List)] "two lists that take turns do not disturb each other";
    get_inside: "G-2" [Need::Has(Capability::List)] "a loop over pages can read, write and delete as it goes";
    zero_is_refused: "L-1" [Need::Has(Capability::List)] "a page of at most nothing is Invalid";
}

/// Keys around which ranges and prefixes go wrong.
pub(super) fn tree() -> Vec<Key> {
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

/// Writes each key with a value of its own.
pub(super) async fn write(cx: &Context, keys: &[Key]) -> Verdict {
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), format!("value of {key}"))).collect();
    cx.set_many(&items).await
}

/// The keys in the order of the contract, by their segments and not by any text.
pub(super) fn in_order(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by_cached_key(segments);
    keys
}

/// What a query covers of these keys, worked out segment by segment.
pub(super) fn model(keys: &[Key], query: &ListQuery) -> Vec<Key> {
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

/// Fails unless a query lists of these keys what it should.
pub(super) async fn lists(cx: &Context, keys: &[Key], query: ListQuery) -> Verdict {
    let expected = model(keys, &query);
    ensure_eq!(names(&cx.list_all(query.clone()).await?), expected, "what {query:?} lists");
    Ok(())
}

pub(super) fn names(items: &[ListItem]) -> Vec<Key> {
    items.iter().map(|item| item.key.clone()).collect()
}

async fn of_nothing(cx: Context) -> Verdict {
    for query in [ListQuery::default(), ListQuery::new(key([""])), ListQuery::new(key(["a"])).with_reverse()] {
        ensure_eq!(cx.list_all(query).await?, [], "what an empty store lists");
    }
    Ok(())
}

async fn everything(cx: Context) -> Verdict {
    let keys = tree();
    let mut shuffled = keys.clone();
    shuffled.reverse();
    shuffled.rotate_left(7);
    write(&cx, &shuffled).await?;
    lists(&cx, &keys, ListQuery::default()).await
}

async fn the_prefix_key_and_below(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    let expected =
        [key(["a"]), key(["a", ""]), key(["a", "b"]), key(["a", "b", "c"]), key(["a", "c"]), key(["a", "é"])];
    ensure_eq!(cx.keys(["a"]).await?, expected, "what the prefix [a] lists");
    cx.delete(["a"]).await?;
    ensure_eq!(cx.keys(["a"]).await?, &expected[1..], "what the prefix [a] lists without the key [a]");
    Ok(())
}

async fn whole_segments_only(cx: Context) -> Verdict {
    for name in ["ab", "a b", "a#b", "a/b", "a:b", "a\0", "A", "aa"] {
        cx.set([name], "v").await?;
    }
    cx.set(["ab", "c"], "v").await?;
    ensure_eq!(cx.keys(["a"]).await?, [], "what the prefix [a] lists");
    ensure_eq!(cx.keys(["ab"]).await?, [key(["ab"]), key(["ab", "c"])], "what the prefix [ab] lists");
    Ok(())
}

async fn of_no_match(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    for prefix in [vec!["nothing"], vec!["a", "b", "c", "d"], vec!["z", ""], vec!["", ""], vec![" "]] {
        ensure_eq!(cx.keys(&prefix).await?, [], "what the prefix {prefix:?} lists");
    }
    Ok(())
}

async fn deep_prefixes(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    ensure_eq!(cx.keys(["a", "b"]).await?, [key(["a", "b"]), key(["a", "b", "c"])], "what the prefix [a, b] lists");
    ensure_eq!(cx.keys(["a", "b", "c"]).await?, [key(["a", "b", "c"])], "what a whole key as prefix lists");
    ensure_eq!(cx.keys(["a", ""]).await?, [key(["a", ""])], "what the prefix [a, \"\"] lists");
    ensure_eq!(cx.keys(["b", "a"]).await?, [key(["b", "a", "b"])], "what a prefix without a key of its own lists");
    Ok(())
}

async fn the_empty_segment_is_not_everything(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    ensure_eq!(cx.keys([""]).await?, [key([""]), key(["", "a"])], "what the prefix [\"\"] lists");
    ensure_eq!(cx.keys(()).await?, keys, "what the empty prefix lists");
    Ok(())
}

async fn patterns_mean_nothing(cx: Context) -> Verdict {
    let patterns = [
        "*", "?", "a*", "a?", "[ab]", "[a-z]", "{a,b}", "%", "_", "a%", "a_", "\\", "\\*", ".*", "^a", "a|b", "(a)",
        "a+",
    ];
    let mut keys: Vec<Key> = ["a", "ab", "abc", "b"].into_iter().map(|name| key([name])).collect();
    keys.extend(patterns.iter().flat_map(|name| [key([name]), key([name, "child"])]));
    write(&cx, &keys).await?;
    for name in patterns {
        ensure_eq!(cx.keys([name]).await?, [key([name]), key([name, "child"])], "what the prefix [{name}] lists");
    }
    Ok(())
}

async fn dangerous_prefixes(cx: Context) -> Verdict {
    let alphabet = ["", "a", "#", "$", "$23", "\0", "a ", "%", "*", "\u{10ffff}"];
    let pairs = alphabet.iter().flat_map(|a| alphabet.iter().map(move |b| key([a, b])));
    let keys = in_order(
        alphabet.iter().map(|a| key([a])).chain(pairs).chain([key(["a", "a", "a"]), key(["", "", ""])]).collect(),
    );
    write(&cx, &keys).await?;
    for prefix in &keys {
        lists(&cx, &keys, ListQuery::new(prefix).with_keys_only()).await?;
    }
    Ok(())
}

async fn reversed(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    for prefix in [KeyPrefix::ALL, key(["a"]).into(), key([""]).into(), key(["\u{10ffff}"]).into()] {
        lists(&cx, &keys, ListQuery::new(prefix).with_reverse()).await?;
    }
    Ok(())
}

async fn shows_what_get_shows(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    cx.set_ttl(["a", "b"], "with a deadline", std::time::Duration::from_secs(3_600)).await?;
    cx.set(["a", "c"], "").await?;
    for query in [ListQuery::default(), ListQuery::default().with_reverse()] {
        for item in cx.list_all(query).await? {
            let gotten = cx.entry(&item.key).await?;
            ensure_eq!(item.entry, Some(gotten), "the listed entry of {}", item.key);
        }
    }
    Ok(())
}

async fn keys_only(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let items = cx.list_all(ListQuery::default().with_keys_only()).await?;
    ensure!(items.iter().all(|item| item.entry.is_none()), "a list of keys alone brought an entry");
    ensure_eq!(names(&items), keys, "the keys alone");
    Ok(())
}

async fn sees_each_write(cx: Context) -> Verdict {
    for at in 0..30 {
        let name = format!("{:02}", (at * 7) % 30);
        cx.set(["k", &name], "v").await?;
        let listed = cx.keys(["k"]).await?;
        ensure!(listed.contains(&key(["k", &name])), "a key is not in the list right after it was written");
        ensure_eq!(listed.len(), at + 1, "the number of keys after as many writes");
    }
    cx.set(["k", "00"], "new").await?;
    let first = cx.list_all(ListQuery::new(key(["k"])).with_limit(1)).await?.into_iter().next();
    let value = first.and_then(|item| item.entry).map(|entry| entry.value);
    ensure_eq!(value.as_deref(), Some(b"new".as_slice()), "the listed value after an overwrite");
    cx.delete(["k", "00"]).await?;
    ensure!(!cx.keys(["k"]).await?.contains(&key(["k", "00"])), "a key is in the list after it was deleted");
    Ok(())
}

async fn ten_thousand(cx: Context) -> Verdict {
    let keys: Vec<Key> = (0..10_000).map(|at| key(["many", &format!("{at:05}")])).collect();
    write(&cx, &keys).await?;
    let listed = cx.keys(["many"]).await?;
    ensure_eq!(listed.len(), keys.len(), "the number of listed keys");
    ensure!(listed == keys, "10,000 keys are listed, but not each once and in order");
    Ok(())
}

async fn a_hundred_thousand(cx: Context) -> Verdict {
    const KEYS: usize = 100_000;
    let items: Vec<_> = (0..KEYS)
        .map(|at| SetItem::new(key(["many", &format!("{:03}", at / 100), &format!("{:02}", at % 100)]), "v"))
        .collect();
    cx.set_many(&items).await?;
    let (mut listed, mut query) = (0, ListQuery::new(key(["many"])).with_keys_only());
    loop {
        let page = cx.store().list(&query).await?;
        for item in &page.items {
            let expected = items.get(listed).map(|item| &item.key);
            ensure_eq!(Some(&item.key), expected, "key {listed} of a list of {KEYS}");
            listed += 1;
        }
        match page.next {
            Some(next) => query = query.resume(next),
            None => break,
        }
    }
    ensure_eq!(listed, KEYS, "the number of listed keys");
    for group in ["000", "499", "999"] {
        let all: Vec<Key> = (0..100).map(|at| key(["many", group, &format!("{at:02}")])).collect();
        ensure_eq!(cx.keys(["many", group]).await?, all, "what the prefix [many, {group}] lists");
    }
    Ok(())
}

async fn during_writes(cx: Context) -> Verdict {
    steady_among_others(&cx, ListQuery::new(key(["k"]))).await
}

async fn during_writes_reversed(cx: Context) -> Verdict {
    steady_among_others(&cx, ListQuery::new(key(["k"])).with_reverse()).await
}

/// Lists in small pages while other keys, between those that stay, are written, overwritten and deleted.
async fn steady_among_others(cx: &Context, query: ListQuery) -> Verdict {
    let steady: Vec<Key> = (0..300).map(|at| key(["k", &format!("{at:03}")])).collect();
    write(cx, &steady).await?;
    let is_done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (cx, is_done) = (cx.clone(), Arc::clone(&is_done));
        async move {
            for round in 0.. {
                // Not aborted: a write that is dropped on its way may be applied after the case has cleared everything.
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{:03} other", (round * 37) % 300);
                cx.set(["k", &name], round.to_string()).await?;
                tokio::task::yield_now().await;
                if round % 3 != 0 {
                    cx.delete(["k", &name]).await?;
                }
                // What stays is also overwritten, which must not move it.
                cx.set(["k", &format!("{:03}", (round * 11) % 300)], "overwritten").await?;
            }
            Ok::<(), Failure>(())
        }
    });
    let result = async {
        for limit in [1, 7, 50] {
            let listed = names(&cx.list_all(query.clone().with_limit(limit)).await?);
            let mut ascending = listed.clone();
            if query.reverse {
                ascending.reverse();
            }
            ensure!(
                ascending.is_sorted_by(|a, b| a < b),
                "a list in pages of {limit} repeats a key or is out of order"
            );
            let found: Vec<Key> = ascending.into_iter().filter(|key| steady.contains(key)).collect();
            ensure!(
                found == steady,
                "a list in pages of {limit} has {} of 300 keys that were there all the time",
                found.len()
            );
        }
        Ok(())
    };
    let verdict = result.await;
    is_done.store(true, Ordering::Relaxed);
    verdict.and(writing.await.unwrap_or_else(|ended| Err(Failure::new(format!("the writer ended: {ended}")))))
}

async fn two_at_once(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let (mut forward, mut backward) =
        (ListQuery::default().with_limit(2), ListQuery::default().with_limit(3).with_reverse());
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let (mut forward_ends, mut backward_ends) = (false, false);
    while !(forward_ends && backward_ends) {
        for (query, found, ends) in
            [(&mut forward, &mut there, &mut forward_ends), (&mut backward, &mut back, &mut backward_ends)]
        {
            if *ends {
                continue;
            }
            let page = cx.store().list(query).await?;
            found.extend(names(&page.items));
            ensure!(found.len() <= keys.len(), "one of two lists has more than there is");
            match page.next {
                Some(next) => *query = query.clone().resume(next),
                None => *ends = true,
            }
        }
    }
    ensure_eq!(there, keys, "the list that went forward");
    back.reverse();
    ensure_eq!(back, keys, "the list that went backward");
    Ok(())
}

async fn get_inside(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let mut query = ListQuery::default().with_limit(4);
    let mut seen = 0;
    loop {
        let page = cx.store().list(&query).await?;
        for item in &page.items {
            cx.expect(&item.key, format!("value of {}", item.key)).await?;
            cx.set(&item.key, "seen").await?;
            cx.expect(&item.key, "seen").await?;
            cx.delete(&item.key).await?;
            seen += 1;
        }
        let Some(next) = page.next else { break };
        query = query.resume(next);
    }
    ensure_eq!(seen, keys.len(), "how many keys a loop saw that deleted each as it went");
    ensure_eq!(cx.keys(()).await?, [], "what the loop left");
    Ok(())
}

async fn zero_is_refused(cx: Context) -> Verdict {
    match cx.store().list(&ListQuery::default().with_limit(0)).await {
        Ok(page) => Err(Failure::new(format!("a limit of zero was answered with {page:?}"))),
        Err(error) => {
            ensure_eq!(error.kind(), kv_core::ErrorKind::Invalid, "the kind of the error");
            Ok(())
        }
    }
}
