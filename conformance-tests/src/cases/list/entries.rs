//! `list`: the items that it returns, and their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capability, Key, KeyPrefix, KvStore, ListQuery, SetItem};

use super::tree::{expect_list, in_order, keys_of, tree, write};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { list, List:
    of_nothing: "L-1" [Need::Has(Capability::List)] "`list` of an empty store returns nothing";
    everything: "L-1" [Need::Has(Capability::List)] "`list` of the empty prefix returns every key in order";
    the_prefix_key_and_below: "L-1" [Need::Has(Capability::List)] "`list` of a prefix returns the key of the prefix and all its descendants";
    whole_segments_only: "K-4" [Need::Has(Capability::List)] "a prefix consists of whole segments: `list` of [a] returns neither [ab] nor [a b]";
    of_no_match: "L-1" [Need::Has(Capability::List)] "`list` of a prefix without keys returns nothing";
    deep_prefixes: "K-4" [Need::Has(Capability::List)] "`list` of a prefix of several segments returns the keys that start with all these segments";
    the_empty_segment_is_not_everything: "K-4" [Need::Has(Capability::List)] "`list` of the prefix [\"\"] returns [\"\"] and its descendants; the empty prefix returns all keys";
    patterns_mean_nothing: "L-4" [Need::Has(Capability::List)] "characters of glob, LIKE and regular expressions in a prefix match only themselves";
    dangerous_prefixes: "K-6" [Need::Has(Capability::List)] "`list` of a prefix of dangerous segments returns exactly the keys that start with these segments";
    reversed: "L-1" [Need::Has(Capability::List)] "a reversed `list` returns the same items in reverse order";
    shows_what_get_shows: "L-1" [Need::Has(Capability::List)] "`list` returns the same entries as `get`: value, version and deadline";
    keys_only: "L-1" [Need::Has(Capability::List)] "`list` with `keys_only` returns the same keys without entries";
    sees_each_write: "G-2" [Need::Has(Capability::List)] "`list` shows every write that was acknowledged before the call";
    ten_thousand: "L-1" [Need::Has(Capability::List), Need::KeepsAll] "`list` returns 10,000 keys, each once and in order, without a silent limit";
    a_hundred_thousand: "L-3" [Need::Has(Capability::List), Need::KeepsAll] "`list` returns all of 100,000 keys, and exactly the keys of a small prefix among them";
    during_writes: "L-2" [Need::Has(Capability::List), Need::KeepsAll]
        "`list` returns each key that exists all the time exactly once, while other keys are written and deleted";
    during_writes_reversed: "L-2" [Need::Has(Capability::List), Need::KeepsAll]
        "a reversed `list` returns each key that exists all the time exactly once, while other keys are written and deleted";
    two_at_once: "L-1" [Need::Has(Capability::List)] "two alternating lists do not affect each other";
    get_inside: "G-2" [Need::Has(Capability::List)] "a loop over pages can read, write and delete keys between the pages";
    zero_is_refused: "L-1" [Need::Has(Capability::List)] "`list` with a limit of zero is Invalid";
}

async fn of_nothing(cx: Context) -> Verdict {
    for query in [ListQuery::default(), ListQuery::new(key([""])), ListQuery::new(key(["a"])).with_reverse()] {
        ensure_eq!(cx.list_all(query).await?, [], "the items that `list` of an empty store returned");
    }
    Ok(())
}

async fn everything(cx: Context) -> Verdict {
    let keys = tree();
    let mut shuffled = keys.clone();
    shuffled.reverse();
    shuffled.rotate_left(7);
    write(&cx, &shuffled).await?;
    expect_list(&cx, &keys, ListQuery::default()).await
}

async fn the_prefix_key_and_below(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    let expected =
        [key(["a"]), key(["a", ""]), key(["a", "b"]), key(["a", "b", "c"]), key(["a", "c"]), key(["a", "é"])];
    ensure_eq!(cx.keys(["a"]).await?, expected, "the keys that `list` returned for the prefix [a]");
    cx.delete(["a"]).await?;
    ensure_eq!(
        cx.keys(["a"]).await?,
        &expected[1..],
        "the keys that `list` returned for the prefix [a] after `delete` of the key [a]"
    );
    Ok(())
}

async fn whole_segments_only(cx: Context) -> Verdict {
    for name in ["ab", "a b", "a#b", "a/b", "a:b", "a\0", "A", "aa"] {
        cx.set([name], "v").await?;
    }
    cx.set(["ab", "c"], "v").await?;
    ensure_eq!(cx.keys(["a"]).await?, [], "the keys that `list` returned for the prefix [a]");
    ensure_eq!(
        cx.keys(["ab"]).await?,
        [key(["ab"]), key(["ab", "c"])],
        "the keys that `list` returned for the prefix [ab]"
    );
    Ok(())
}

async fn of_no_match(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    for prefix in [vec!["nothing"], vec!["a", "b", "c", "d"], vec!["z", ""], vec!["", ""], vec![" "]] {
        ensure_eq!(cx.keys(&prefix).await?, [], "the keys that `list` returned for the prefix {prefix:?}");
    }
    Ok(())
}

async fn deep_prefixes(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    ensure_eq!(
        cx.keys(["a", "b"]).await?,
        [key(["a", "b"]), key(["a", "b", "c"])],
        "the keys that `list` returned for the prefix [a, b]"
    );
    ensure_eq!(
        cx.keys(["a", "b", "c"]).await?,
        [key(["a", "b", "c"])],
        "the keys that `list` returned for the prefix [a, b, c]"
    );
    ensure_eq!(cx.keys(["a", ""]).await?, [key(["a", ""])], "the keys that `list` returned for the prefix [a, \"\"]");
    ensure_eq!(
        cx.keys(["b", "a"]).await?,
        [key(["b", "a", "b"])],
        "the keys that `list` returned for the prefix [b, a]"
    );
    Ok(())
}

async fn the_empty_segment_is_not_everything(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    ensure_eq!(
        cx.keys([""]).await?,
        [key([""]), key(["", "a"])],
        "the keys that `list` returned for the prefix [\"\"]"
    );
    ensure_eq!(cx.keys(()).await?, keys, "the keys that `list` returned for the empty prefix");
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
        ensure_eq!(
            cx.keys([name]).await?,
            [key([name]), key([name, "child"])],
            "the keys that `list` returned for the prefix [{name}]"
        );
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
        expect_list(&cx, &keys, ListQuery::new(prefix).with_keys_only()).await?;
    }
    Ok(())
}

async fn reversed(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    for prefix in [KeyPrefix::ALL, key(["a"]).into(), key([""]).into(), key(["\u{10ffff}"]).into()] {
        expect_list(&cx, &keys, ListQuery::new(prefix).with_reverse()).await?;
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
            ensure_eq!(item.entry, Some(gotten), "the entry that `list` returned for {}", item.key);
        }
    }
    Ok(())
}

async fn keys_only(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let items = cx.list_all(ListQuery::default().with_keys_only()).await?;
    ensure!(items.iter().all(|item| item.entry.is_none()), "`list` with `keys_only` returned an entry");
    ensure_eq!(keys_of(&items), keys, "the keys that `list` with `keys_only` returned");
    Ok(())
}

async fn sees_each_write(cx: Context) -> Verdict {
    for at in 0..30 {
        let name = format!("{:02}", (at * 7) % 30);
        cx.set(["k", &name], "v").await?;
        let listed = cx.keys(["k"]).await?;
        ensure!(listed.contains(&key(["k", &name])), "`list` did not return a key that was written just before");
        ensure_eq!(listed.len(), at + 1, "the number of keys that `list` returned after as many writes");
    }
    cx.set(["k", "00"], "new").await?;
    let first = cx.list_all(ListQuery::new(key(["k"])).with_limit(1)).await?.into_iter().next();
    let value = first.and_then(|item| item.entry).map(|entry| entry.value);
    ensure_eq!(value.as_deref(), Some(b"new".as_slice()), "the value that `list` returned after an overwrite");
    cx.delete(["k", "00"]).await?;
    ensure!(!cx.keys(["k"]).await?.contains(&key(["k", "00"])), "`list` returned a key that was deleted before");
    Ok(())
}

async fn ten_thousand(cx: Context) -> Verdict {
    let keys: Vec<Key> = (0..10_000).map(|at| key(["many", &format!("{at:05}")])).collect();
    write(&cx, &keys).await?;
    let listed = cx.keys(["many"]).await?;
    ensure_eq!(listed.len(), keys.len(), "the number of keys that `list` returned");
    ensure!(listed == keys, "`list` returned 10,000 keys, but not each key once and in order");
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
            ensure_eq!(Some(&item.key), expected, "key {listed} that `list` returned, of {KEYS}");
            listed += 1;
        }
        match page.next {
            Some(next) => query = query.resume(next),
            None => break,
        }
    }
    ensure_eq!(listed, KEYS, "the number of keys that `list` returned");
    for group in ["000", "499", "999"] {
        let all: Vec<Key> = (0..100).map(|at| key(["many", group, &format!("{at:02}")])).collect();
        ensure_eq!(
            cx.keys(["many", group]).await?,
            all,
            "the keys that `list` returned for the prefix [many, {group}]"
        );
    }
    Ok(())
}

async fn during_writes(cx: Context) -> Verdict {
    list_during_writes(&cx, ListQuery::new(key(["k"]))).await
}

async fn during_writes_reversed(cx: Context) -> Verdict {
    list_during_writes(&cx, ListQuery::new(key(["k"])).with_reverse()).await
}

/// Lists in small pages. Meanwhile other keys, which lie between the steady keys, are written, overwritten and deleted.
async fn list_during_writes(cx: &Context, query: ListQuery) -> Verdict {
    let steady: Vec<Key> = (0..300).map(|at| key(["k", &format!("{at:03}")])).collect();
    write(cx, &steady).await?;
    let is_done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (cx, is_done) = (cx.clone(), Arc::clone(&is_done));
        async move {
            for round in 0.. {
                // The task is not aborted, because a dropped write could be applied after the case has cleared the
                // store.
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{:03} other", (round * 37) % 300);
                cx.set(["k", &name], round.to_string()).await?;
                tokio::task::yield_now().await;
                if round % 3 != 0 {
                    cx.delete(["k", &name]).await?;
                }
                // Overwrites steady keys, too. An overwrite must not change the position of a key in the list.
                cx.set(["k", &format!("{:03}", (round * 11) % 300)], "overwritten").await?;
            }
            Ok::<(), Failure>(())
        }
    });
    let result = async {
        for limit in [1, 7, 50] {
            let listed = keys_of(&cx.list_all(query.clone().with_limit(limit)).await?);
            let mut ascending = listed.clone();
            if query.reverse {
                ascending.reverse();
            }
            ensure!(
                ascending.is_sorted_by(|a, b| a < b),
                "`list` in pages of {limit} returned a key twice or out of order"
            );
            let found: Vec<Key> = ascending.into_iter().filter(|key| steady.contains(key)).collect();
            ensure!(
                found == steady,
                "`list` in pages of {limit} returned {} of 300 keys that existed all the time",
                found.len()
            );
        }
        Ok(())
    };
    let verdict = result.await;
    is_done.store(true, Ordering::Relaxed);
    verdict.and(writing.await.unwrap_or_else(|ended| Err(Failure::new(format!("the writing task panicked: {ended}")))))
}

async fn two_at_once(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    let (mut forward, mut backward) =
        (ListQuery::default().with_limit(2), ListQuery::default().with_limit(3).with_reverse());
    let (mut forward_keys, mut backward_keys) = (Vec::new(), Vec::new());
    let (mut forward_ends, mut backward_ends) = (false, false);
    while !(forward_ends && backward_ends) {
        for (query, found, ends) in [
            (&mut forward, &mut forward_keys, &mut forward_ends),
            (&mut backward, &mut backward_keys, &mut backward_ends),
        ] {
            if *ends {
                continue;
            }
            let page = cx.store().list(query).await?;
            found.extend(keys_of(&page.items));
            ensure!(found.len() <= keys.len(), "one of two alternating lists returned more keys than exist");
            match page.next {
                Some(next) => *query = query.clone().resume(next),
                None => *ends = true,
            }
        }
    }
    ensure_eq!(forward_keys, keys, "the keys of the forward one of two alternating lists");
    backward_keys.reverse();
    ensure_eq!(backward_keys, keys, "the keys of the reversed one of two alternating lists, in reverse");
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
    ensure_eq!(seen, keys.len(), "the number of keys that a loop over `list` pages saw while it deleted each");
    ensure_eq!(cx.keys(()).await?, [], "the keys that `list` returned after the loop deleted each key");
    Ok(())
}

async fn zero_is_refused(cx: Context) -> Verdict {
    match cx.store().list(&ListQuery::default().with_limit(0)).await {
        Ok(page) => Err(Failure::new(format!(
            "expected `list` with a limit of zero to fail as Invalid, but it returned {page:?}"
        ))),
        Err(error) => {
            ensure_eq!(
                error.kind(),
                kv_core::ErrorKind::Invalid,
                "the kind of the error of `list` with a limit of zero"
            );
            Ok(())
        }
    }
}
