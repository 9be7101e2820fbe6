//! Keys of confusing segments are all different.

use std::collections::BTreeSet;

use kv_core::{Capability, Key, KvStore};

use super::keys::{expect_distinct, number, read_all, segments, write_all};
use crate::case::{Need, cases};
use crate::context::{Context, display_key, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { injectivity, Core:
    every_dangerous_key_is_its_own: "K-2" [Need::KeepsAll]
        "each key of up to three dangerous segments holds the value that was written under it";
    every_dangerous_key_is_listed: "K-3" [Need::Has(Capability::List), Need::KeepsAll]
        "all keys of up to three dangerous segments are listed completely, in the order of their segments";
    five_near_misses: "K-2" [] "[a,b], [a:b], [a/b], [a,\"\"] and [ab] are five keys";
    ends_do_not_run_together: "K-2" [] "a separator or an escape at the start or end of a segment does not move the segment's boundary";
    separators: "K-1" [] "characters that stores use to join segments have no special meaning in a segment";
    escapes: "K-1" [] "a segment that looks like an escape differs from the escaped character";
    patterns: "K-1" [] "characters of glob, LIKE and regular expressions have no special meaning in a key";
}

/// Segments that some stores confuse with another segment or with no segment.
const DANGEROUS: [&str; 12] = ["", "a", ":", "/", "#", "$", "$23", "\0", "a ", "é", "%2F", "*"];

async fn every_dangerous_key_is_its_own(cx: Context) -> Verdict {
    let all = dangerous_keys();
    write_all(&cx, &all).await?;
    read_all(&cx, &all).await?;
    // If two keys were one entry, deleting one would delete the other.
    let (deleted, kept): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let deleted: Vec<Key> = deleted.into_iter().map(|(_, key)| key).collect();
    for outcome in cx.store().delete_many(&deleted).await {
        ensure!(outcome?.is_deleted(), "`delete_many` removed nothing for a key that was written");
    }
    for (at, key) in kept {
        ensure_eq!(
            cx.get(&key).await?,
            Some(number(at).into()),
            "the value that `get` returned for {}, after other keys were deleted",
            display_key(&key)
        );
    }
    Ok(())
}

async fn every_dangerous_key_is_listed(cx: Context) -> Verdict {
    let all = dangerous_keys();
    write_all(&cx, &all).await?;
    let listed: Vec<Vec<String>> = cx.keys(()).await?.iter().map(segments).collect();
    let expected: Vec<Vec<String>> = all.iter().map(segments).collect::<BTreeSet<_>>().into_iter().collect();
    for (found, expected) in listed.iter().zip(&expected) {
        ensure_eq!(found, expected, "the next key that `list` returned");
    }
    ensure_eq!(listed.len(), expected.len(), "the number of keys that `list` returned");
    Ok(())
}

async fn five_near_misses(cx: Context) -> Verdict {
    expect_distinct(&cx, [vec!["a", "b"], vec!["a:b"], vec!["a/b"], vec!["a", ""], vec!["ab"]]).await
}

async fn ends_do_not_run_together(cx: Context) -> Verdict {
    let mut keys = Vec::new();
    for separator in [":", "/", "#", "\0", "|"] {
        for escape in ["_", "\\", "$", "%", "\0", separator] {
            let (joined, ends_with_escape, starts_with_escape) =
                (format!("a{separator}b"), format!("a{escape}"), format!("{escape}b"));
            let escaped = format!("a{escape}{separator}b");
            let all = [
                vec![joined.clone()],
                vec![escaped],
                vec![ends_with_escape, "b".to_owned()],
                vec!["a".to_owned(), starts_with_escape],
                vec![format!("a{separator}"), "b".to_owned()],
                vec!["a".to_owned(), format!("{separator}b")],
                vec![format!("a{separator}{separator}b")],
            ];
            keys.extend(all.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
        }
    }
    keys.sort();
    keys.dedup();
    expect_distinct(&cx, keys).await
}

async fn separators(cx: Context) -> Verdict {
    let separators =
        [":", "/", "#", ".", "-", "_", "|", ",", ";", "\\", "\0", "\u{1}", "\u{1f}", "\u{ff}", "\u{10ffff}"];
    let joined: Vec<String> = separators.iter().map(|separator| format!("a{separator}b")).collect();
    let mut keys: Vec<Vec<&str>> = joined.iter().map(|segment| vec![segment.as_str()]).collect();
    keys.extend(separators.iter().flat_map(|separator| [vec!["a", *separator, "b"], vec![*separator]]));
    keys.push(vec!["a", "b"]);
    expect_distinct(&cx, keys).await
}

async fn escapes(cx: Context) -> Verdict {
    let twins = [
        ["a/b", "a%2Fb", "a%2fb", "a%252Fb"],
        ["a#b", "a$23b", "a$2423b", "a\\#b"],
        ["$", "$24", "$2424", "$$"],
        ["\\", "\\\\", "\\x5c", "\\u005c"],
        ["\0", "\\0", "$00", "%00"],
        ["&", "&amp;", "&#38;", "=26"],
        [":", "_:", "_", "__"],
    ];
    expect_distinct(&cx, twins.iter().flatten().map(|segment| vec![*segment])).await
}

async fn patterns(cx: Context) -> Verdict {
    let patterns =
        ["*", "?", "a*", "a?", "[ab]", "[^a]", "{a,b}", "%", "_", "a%", "a_", ".*", "a.*", "(a|b)", "^a$", "a", "ab"];
    expect_distinct(&cx, patterns.map(|segment| vec![segment])).await
}

/// Every key of up to three dangerous segments.
fn dangerous_keys() -> Vec<Key> {
    let one = DANGEROUS.iter().map(|a| key([a]));
    let two = DANGEROUS.iter().flat_map(|a| DANGEROUS.iter().map(move |b| key([a, b])));
    let pairs = || DANGEROUS.iter().flat_map(|a| DANGEROUS.iter().map(move |b| (*a, *b)));
    let three = pairs().flat_map(|(a, b)| DANGEROUS.iter().map(move |c| key([a, b, c])));
    one.chain(two).chain(three).collect()
}
