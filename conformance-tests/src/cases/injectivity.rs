//! No two keys are one.

use std::collections::BTreeSet;

use kv_core::{Capability, Key, KvStore};

use super::keys::{number, read_all, segments, stay_apart, write_all};
use crate::case::{Need, cases};
use crate::context::{Context, key, named};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { injectivity, Core:
    every_dangerous_key_is_its_own: "K-2" [Need::KeepsAll]
        "all keys of up to three dangerous segments hold what was written under them, and nothing else";
    every_dangerous_key_is_listed: "K-3" [Need::Has(Capability::List), Need::KeepsAll]
        "all keys of up to three dangerous segments are listed exactly, in order of their segments";
    five_near_misses: "K-2" [] "[a,b], [a:b], [a/b], [a,\"\"] and [ab] are five keys";
    ends_do_not_run_together: "K-2" [] "segments that begin or end with a separator or an escape stay apart from their neighbours";
    separators: "K-1" [] "characters that stores join segments with mean nothing in a segment";
    escapes: "K-1" [] "a segment that looks like an escape is not the character that it would stand for";
    patterns: "K-1" [] "characters of glob, LIKE and regular expressions mean nothing in a key";
}

/// Segments that some store somewhere confuses with another or with none.
const DANGEROUS: [&str; 12] = ["", "a", ":", "/", "#", "$", "$23", "\0", "a ", "é", "%2F", "*"];

async fn every_dangerous_key_is_its_own(cx: Context) -> Verdict {
    let all = dangerous_keys();
    write_all(&cx, &all).await?;
    read_all(&cx, &all).await?;
    // A key that went for two would take the other with it.
    let (gone, kept): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let gone: Vec<Key> = gone.into_iter().map(|(_, key)| key).collect();
    for outcome in cx.store().delete_many(&gone).await {
        ensure!(outcome?.is_deleted(), "a key that was written is not there to be deleted");
    }
    for (at, key) in kept {
        ensure_eq!(cx.get(&key).await?, Some(number(at).into()), "what is left under {}", named(&key));
    }
    Ok(())
}

async fn every_dangerous_key_is_listed(cx: Context) -> Verdict {
    let all = dangerous_keys();
    write_all(&cx, &all).await?;
    let listed: Vec<Vec<String>> = cx.keys(()).await?.iter().map(segments).collect();
    let expected: Vec<Vec<String>> = all.iter().map(segments).collect::<BTreeSet<_>>().into_iter().collect();
    for (found, expected) in listed.iter().zip(&expected) {
        ensure_eq!(found, expected, "the next listed key");
    }
    ensure_eq!(listed.len(), expected.len(), "the number of listed keys");
    Ok(())
}

async fn five_near_misses(cx: Context) -> Verdict {
    stay_apart(&cx, [vec!["a", "b"], vec!["a:b"], vec!["a/b"], vec!["a", ""], vec!["ab"]]).await
}

async fn ends_do_not_run_together(cx: Context) -> Verdict {
    let mut keys = Vec::new();
    for separator in [":", "/", "#", "\0", "|"] {
        for escape in ["_", "\\", "$", "%", "\0", separator] {
            let (joined, behind, before) = (format!("a{separator}b"), format!("a{escape}"), format!("{escape}b"));
            let escaped = format!("a{escape}{separator}b");
            let all = [
                vec![joined.clone()],
                vec![escaped],
                vec![behind, "b".to_owned()],
                vec!["a".to_owned(), before],
                vec![format!("a{separator}"), "b".to_owned()],
                vec!["a".to_owned(), format!("{separator}b")],
                vec![format!("a{separator}{separator}b")],
            ];
            keys.extend(all.into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
        }
    }
    keys.sort();
    keys.dedup();
    stay_apart(&cx, keys).await
}

async fn separators(cx: Context) -> Verdict {
    let separators =
        [":", "/", "#", ".", "-", "_", "|", ",", ";", "\\", "\0", "\u{1}", "\u{1f}", "\u{ff}", "\u{10ffff}"];
    let joined: Vec<String> = separators.iter().map(|separator| format!("a{separator}b")).collect();
    let mut keys: Vec<Vec<&str>> = joined.iter().map(|segment| vec![segment.as_str()]).collect();
    keys.extend(separators.iter().flat_map(|separator| [vec!["a", *separator, "b"], vec![*separator]]));
    keys.push(vec!["a", "b"]);
    stay_apart(&cx, keys).await
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
    stay_apart(&cx, twins.iter().flatten().map(|segment| vec![*segment])).await
}

async fn patterns(cx: Context) -> Verdict {
    let patterns =
        ["*", "?", "a*", "a?", "[ab]", "[^a]", "{a,b}", "%", "_", "a%", "a_", ".*", "a.*", "(a|b)", "^a$", "a", "ab"];
    stay_apart(&cx, patterns.map(|segment| vec![segment])).await
}

/// Every key of up to three dangerous segments.
fn dangerous_keys() -> Vec<Key> {
    let one = DANGEROUS.iter().map(|a| key([a]));
    let two = DANGEROUS.iter().flat_map(|a| DANGEROUS.iter().map(move |b| key([a, b])));
    let pairs = || DANGEROUS.iter().flat_map(|a| DANGEROUS.iter().map(move |b| (*a, *b)));
    let three = pairs().flat_map(|(a, b)| DANGEROUS.iter().map(move |c| key([a, b, c])));
    one.chain(two).chain(three).collect()
}
