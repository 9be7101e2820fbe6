//! Keys: all segments are allowed, and different keys are different entries.

use kv_core::{Capability, ErrorKind, IntoKey, Key, KvStore, ListQuery, Namespace, Namespaced, SetItem};

use crate::case::{Need, cases};
use crate::context::{Context, display_key, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { keys, Core:
    quotes: "E-3" [] "quotes, comments and templates in a key are never interpreted by a query";
    empty_segments: "K-1" [] "empty segments count in every position";
    control_characters: "K-1" [] "NUL, newlines and all other control characters are ordinary characters";
    unicode: "K-1" [] "every script, emoji and direction mark is kept";
    normal_forms_stay_apart: "K-1" [] "composed and decomposed characters are different keys";
    case_stays_apart: "K-1" [] "upper and lower case are different keys";
    spaces_stay: "K-1" [] "spaces are not trimmed: not at the start, not at the end, and not in a segment that has only spaces";
    dots: "K-1" [] "`.` and `..` are ordinary segments";
    numbers_stay_text: "K-1" [] "segments that would be equal as numbers are different keys";
    names_of_internals: "K-1" [] "a key that looks like an internal name of the store is an ordinary key";
    a_hundred_segments: "K-1" [] "a key of 100 segments works and differs from its parent of 99";
    the_longest_key: "K-5" [] "keys of exactly 2,048 encoded bytes work, whether they are long, escaped, wide or deep";
    long_keys_differ_at_their_end: "K-5" [] "keys of any length that differ only in their last byte are different";
    too_long_is_refused: "K-5" [] "a key of 2,049 encoded bytes is Invalid, and the error names size and limit";
    no_segments_is_refused: "K-5" [] "a key without segments is Invalid";
    every_way_to_the_same_key: "K-2" [] "an array, a list, a tuple, a parent with a child, and a text build the same key";
    order_is_by_segment: "K-3" [Need::Has(Capability::List)]
        "keys are ordered segment by segment by UTF-8 bytes, a parent before its children";
    namespaces_stay_apart: "K-4" [Need::Has(Capability::List)]
        "namespaces share no key, even if the text of one namespace starts with the text of the other";
}

async fn quotes(cx: Context) -> Verdict {
    let texts =
        ["'", "''", "\"", "`", "a'; drop table kv; --", "/*", "--", "${a}", "{{a}}", "$1", ":a", "\r\nFLUSHALL\r\n"];
    expect_distinct(&cx, texts.map(|segment| vec![segment])).await
}

async fn empty_segments(cx: Context) -> Verdict {
    let keys = [
        vec![""],
        vec!["", ""],
        vec!["", "", ""],
        vec!["a"],
        vec!["a", ""],
        vec!["", "a"],
        vec!["a", "", "a"],
        vec!["a", "a"],
    ];
    expect_distinct(&cx, keys).await
}

async fn control_characters(cx: Context) -> Verdict {
    let controls = (0..0x20_u8).chain([0x7f]).map(char::from).chain(['\u{80}', '\u{9f}', '\u{2028}', '\u{feff}']);
    let mut keys: Vec<[String; 1]> =
        controls.flat_map(|control| [[control.to_string()], [format!("a{control}b")]]).collect();
    keys.push(["a".to_owned()]);
    keys.push(["ab".to_owned()]);
    expect_distinct(&cx, keys).await
}

async fn unicode(cx: Context) -> Verdict {
    let texts = [
        "🦀",
        "👩‍👩‍👧‍👦",
        "👩",
        "🇩🇪",
        "🇩",
        "👍🏽",
        "👍",
        "שלום",
        "\u{202e}abc",
        "abc",
        "漢字",
        "汉字",
        "ß",
        "ss",
        "ﬁ",
        "fi",
        "\u{200b}",
        "\u{10ffff}",
        "\u{e000}",
        "\u{fffd}",
        "ı",
        "i",
        "İ",
    ];
    expect_distinct(&cx, texts.map(|segment| vec![segment])).await
}

async fn normal_forms_stay_apart(cx: Context) -> Verdict {
    let forms = ["\u{e9}", "e\u{301}", "\u{212b}", "\u{c5}", "A\u{30a}", "\u{1e9b}\u{323}", "\u{17f}\u{307}\u{323}"];
    expect_distinct(&cx, forms.map(|segment| vec![segment])).await
}

async fn case_stays_apart(cx: Context) -> Verdict {
    expect_distinct(&cx, ["key", "Key", "KEY", "ä", "Ä", "σ", "ς", "Σ"].map(|segment| vec![segment])).await
}

async fn spaces_stay(cx: Context) -> Verdict {
    let many = " ".repeat(600);
    let texts = ["a", "a ", " a", " a ", "a  ", "a\t", "a\n", "a\u{a0}", " ", "  ", "\t", "", &many];
    expect_distinct(&cx, texts.map(|segment| vec![segment])).await
}

async fn dots(cx: Context) -> Verdict {
    let keys = [
        vec!["."],
        vec![".."],
        vec!["..."],
        vec!["a", ".."],
        vec!["a", "..", "a"],
        vec!["a"],
        vec!["a", "."],
        vec!["../a"],
        vec!["/"],
    ];
    expect_distinct(&cx, keys).await
}

async fn numbers_stay_text(cx: Context) -> Verdict {
    let texts = [
        "1",
        "01",
        "1.0",
        "+1",
        "-1",
        "1e0",
        "0x1",
        "１",
        "true",
        "null",
        "NaN",
        "9007199254740993",
        "9007199254740992",
    ];
    expect_distinct(&cx, texts.map(|segment| vec![segment])).await
}

async fn names_of_internals(cx: Context) -> Verdict {
    let names = [
        "meta",
        "__meta",
        "_meta",
        "__version__",
        "version",
        "index",
        "__index",
        "idx",
        "expiry",
        "expires",
        "deadlines",
        "ttl",
        "lock",
        "locks",
        "queue",
        "watch",
        "kv",
        "kv_entries",
        "kv-data",
        "default",
        "sqlite_master",
        "pg_catalog",
        "__sled__default",
        "__keyspace@0__",
        "__keyevent@0__:set",
        "__redis__:invalidate",
        "{kv}",
        "{0}",
        "{}",
        "constructor",
        "__proto__",
    ];
    let keys = names.iter().flat_map(|name| [vec![*name], vec!["", *name], vec![*name, ""]]);
    expect_distinct(&cx, keys).await?;
    // The store still works, so its internal entries were left alone.
    cx.set(["after"], "v").await?;
    cx.expect(["after"], "v").await
}

async fn a_hundred_segments(cx: Context) -> Verdict {
    let hundred: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let ninety_nine: Vec<String> = hundred.iter().take(99).cloned().collect();
    expect_distinct(&cx, [hundred, ninety_nine]).await?;
    expect_distinct(&cx, [vec![""; 100], vec![""; 99]]).await
}

async fn the_longest_key(cx: Context) -> Verdict {
    let plain = "x".repeat(Key::MAX_BYTES);
    let escaped = format!("{}xx", "\0".repeat(Key::MAX_BYTES / 3));
    let wide = "🦀".repeat(Key::MAX_BYTES / 4);
    let segments = vec!["x"; Key::MAX_BYTES / 2];
    let mut keys = Vec::new();
    for key in [Key::new([plain])?, Key::new([escaped])?, Key::new([wide])?, Key::new(segments)?.child("")?] {
        ensure_eq!(key.as_str().len(), Key::MAX_BYTES, "the encoded length of a key of the maximum length");
        keys.push(key);
    }
    expect_distinct(&cx, keys).await
}

async fn long_keys_differ_at_their_end(cx: Context) -> Verdict {
    // Lengths near the lengths at which some stores truncate or hash keys.
    let lengths = [31, 32, 63, 64, 127, 128, 250, 255, 256, 511, 512, 767, 1_023, 1_024, 2_047];
    let keys = lengths.into_iter().flat_map(|length| {
        let stem = "k".repeat(length);
        [[format!("{stem}a")], [format!("{stem}b")]]
    });
    expect_distinct(&cx, keys).await
}

async fn too_long_is_refused(cx: Context) -> Verdict {
    for segment in ["x".repeat(Key::MAX_BYTES + 1), format!("{}xxx", "#".repeat(Key::MAX_BYTES / 3))] {
        is_invalid(Key::new([segment]), &["2049", "2048"])?;
    }
    is_invalid(key(["a"]).child("x".repeat(Key::MAX_BYTES)), &["2050", "2048"])?;
    // The refused keys did not reach the store, which works as before.
    cx.set(["a"], "v").await?;
    cx.expect(["a"], "v").await
}

async fn no_segments_is_refused(cx: Context) -> Verdict {
    is_invalid(Key::new::<&str>([]), &["segment"])?;
    // A store easily confuses a key with one empty segment and a key without segments.
    cx.set([""], "v").await?;
    cx.expect([""], "v").await
}

async fn every_way_to_the_same_key(cx: Context) -> Verdict {
    cx.set(["users", "a#1"], "v").await?;
    let id = String::from("a#1");
    cx.expect(["users", &id], "v").await?;
    cx.expect(vec!["users".to_owned(), id.clone()], "v").await?;
    cx.expect(("users", id.clone()), "v").await?;
    cx.expect(key(["users"]).child(&id)?, "v").await?;
    cx.expect(Key::parse("users#a$231")?, "v").await?;
    cx.expect(Key::new(key(["users", "a#1"]).segments())?, "v").await
}

async fn order_is_by_segment(cx: Context) -> Verdict {
    // UTF-8 order is the order of code points. It is not the order of UTF-16, of a language, or of the joined text.
    let ordered = [
        vec![""],
        vec!["", ""],
        vec!["", "a"],
        vec!["\0"],
        vec![" "],
        vec!["!"],
        vec!["#"],
        vec!["$"],
        vec!["%"],
        vec!["10"],
        vec!["9"],
        vec!["A"],
        vec!["B"],
        vec!["a"],
        vec!["a", ""],
        vec!["a", "\0"],
        vec!["a", "b"],
        vec!["a", "b", "c"],
        vec!["a", "c"],
        vec!["a\0"],
        vec!["a "],
        vec!["a#"],
        vec!["a$"],
        vec!["a:"],
        vec!["aa"],
        vec!["b"],
        vec!["z"],
        vec!["\u{7f}"],
        vec!["ä"],
        vec!["\u{fffd}"],
        vec!["🦀"],
        vec!["\u{10ffff}"],
    ];
    for segments in ordered.iter().rev() {
        cx.set(segments, "v").await?;
    }
    let listed: Vec<Vec<String>> = cx.keys(()).await?.iter().map(segments).collect();
    ensure_eq!(listed, ordered.to_vec(), "the order of the keys that `list` returned");
    Ok(())
}

async fn namespaces_stay_apart(cx: Context) -> Verdict {
    let namespaces = [
        vec!["app"],
        vec!["app2"],
        vec!["app", "eu"],
        vec!["app#eu"],
        vec!["ap"],
        vec!["app", ""],
        vec![""],
        vec!["*"],
        vec!["a_p"],
    ];
    let mut stores = Vec::new();
    for namespace in &namespaces {
        stores.push(Namespaced::new(cx.store().clone(), Namespace::new(namespace)?));
    }
    let shared = [key(["k"]), key(["eu", "k"]), key(["", "k"])];
    for (at, store) in stores.iter().enumerate() {
        for key in &shared {
            let _ = store.set(key, number(at).into(), &kv_core::SetOptions::default()).await?;
        }
    }
    let mut in_order = shared.to_vec();
    in_order.sort();
    for (at, store) in stores.iter().enumerate() {
        let page = store.list(&ListQuery::default()).await?;
        let listed: Vec<Key> = page.items.iter().map(|item| item.key.clone()).collect();
        ensure_eq!(listed, in_order, "the keys that `list` returned in the namespace {}", store.namespace());
        for item in page.items {
            let value = item.entry.map(|entry| entry.value);
            ensure_eq!(
                value.as_deref(),
                Some(number(at).as_bytes()),
                "the value that `list` returned for {} in the namespace {}",
                item.key,
                store.namespace()
            );
        }
    }
    Ok(())
}

/// Fails unless each of these keys can be written, read and deleted without effect on the others.
pub(in crate::cases) async fn expect_distinct(cx: &Context, keys: impl IntoIterator<Item = impl IntoKey>) -> Verdict {
    let keys = keys.into_iter().map(IntoKey::into_key).collect::<Result<Vec<Key>, _>>()?;
    write_all(cx, &keys).await?;
    read_all(cx, &keys).await?;
    for (at, key) in keys.iter().enumerate() {
        ensure!(
            cx.delete(key).await?,
            "`delete` of {} removed nothing, so deleting another key removed it",
            display_key(key)
        );
        cx.expect_absent(key).await?;
        if let Some(next) = keys.get(at + 1) {
            cx.expect(next, number(at + 1)).await?;
        }
    }
    Ok(())
}

/// Writes a different value under each key: the index of the key.
pub(in crate::cases) async fn write_all(cx: &Context, keys: &[Key]) -> Verdict {
    let items: Vec<_> = keys.iter().enumerate().map(|(at, key)| SetItem::new(key.clone(), number(at))).collect();
    cx.set_many(&items).await
}

/// Fails unless `get` of each key returns the index of the key.
pub(in crate::cases) async fn read_all(cx: &Context, keys: &[Key]) -> Verdict {
    for (at, key) in keys.iter().enumerate() {
        ensure_eq!(
            cx.get(key).await?,
            Some(number(at).into()),
            "the value that `get` returned for {}",
            display_key(key)
        );
    }
    Ok(())
}

pub(in crate::cases) fn number(at: usize) -> String {
    format!("value {at}")
}

pub(in crate::cases) fn segments(key: &Key) -> Vec<String> {
    key.segments().map(std::borrow::Cow::into_owned).collect()
}

/// Fails unless the error is `Invalid` and its text contains all of these parts.
fn is_invalid(built: kv_core::Result<Key>, parts: &[&str]) -> Verdict {
    let Err(error) = built else {
        return Err(Failure::new("expected building the key to fail as Invalid, but it succeeded"));
    };
    ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of the error of an invalid key");
    for part in parts {
        ensure!(error.message().contains(part), "the error `{error}` of an invalid key does not contain {part}");
    }
    Ok(())
}
