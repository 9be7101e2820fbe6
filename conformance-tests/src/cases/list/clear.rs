//! `clear` removes all entries under a prefix.

use kv_core::{Capability, Key, KeyPrefix, KvStore, Namespace, Namespaced, SetItem, SetOptions};

use super::tree::{expected_keys, tree, write};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { clear, List:
    of_nothing: "L-5" [Need::Has(Capability::List)] "`clear` of an empty store succeeds and removes nothing";
    everything: "L-5" [Need::Has(Capability::List)] "`clear` of the empty prefix removes all entries and returns their number";
    a_prefix: "L-5" [Need::Has(Capability::List)] "`clear` of a prefix removes the key of the prefix and all its descendants, and nothing else";
    every_prefix: "K-4" [Need::Has(Capability::List)] "`clear` of a prefix removes exactly the keys that `list` of the same prefix returns";
    of_no_match: "L-5" [Need::Has(Capability::List)] "`clear` of a prefix without keys removes nothing";
    the_empty_segment_is_not_everything: "K-4" [Need::Has(Capability::List)] "`clear` of [\"\"] leaves keys that do not start with an empty segment";
    patterns_mean_nothing: "L-4" [Need::Has(Capability::List)] "`clear` of a prefix of glob or LIKE characters removes only keys that start with these characters";
    twice: "L-5" [Need::Has(Capability::List)] "a second `clear` removes nothing";
    entries_with_a_deadline: "L-5" [Need::Has(Capability::List)] "`clear` removes and counts live entries with a deadline";
    written_again: "L-5" [Need::Has(Capability::List)] "a cleared key can be written again, and the new entry does not have the old deadline";
    versions_do_not_return: "S-3" [Need::Has(Capability::List), Need::Has(Capability::Versions)] "a key that was cleared and written again has a new version";
    five_thousand: "L-5" [Need::Has(Capability::List), Need::KeepsAll] "`clear` removes and counts 5,000 entries";
    longer_than_a_page: "L-5" [Need::Has(Capability::List), Need::KeepsAll] "one `clear` removes all values, even if they do not fit into a page of `list`";
    while_others_write: "L-5" [Need::Has(Capability::List), Need::KeepsAll] "during other writes, `clear` removes every entry that existed before the call and was not written again";
    of_one_namespace: "L-5" [Need::Has(Capability::List)] "`clear` of a namespace leaves the entries of other namespaces";
    of_one_store: "L-5" [Need::Has(Capability::List)] "`clear` of a store leaves the entries of another store on the same backend";
}

async fn of_nothing(cx: Context) -> Verdict {
    ensure_eq!(clear(&cx, KeyPrefix::ALL).await?, 0, "the number that `clear` of an empty store returned");
    ensure_eq!(
        clear(&cx, key(["a"]).into()).await?,
        0,
        "the number that `clear` of a prefix of an empty store returned"
    );
    Ok(())
}

async fn everything(cx: Context) -> Verdict {
    let keys = tree();
    write(&cx, &keys).await?;
    ensure_eq!(clear(&cx, KeyPrefix::ALL).await?, count(&keys), "the number that `clear` of everything returned");
    ensure_eq!(cx.keys(()).await?, [], "the keys that `list` returned after `clear`");
    for key in keys {
        cx.expect_absent(key).await?;
    }
    Ok(())
}

async fn a_prefix(cx: Context) -> Verdict {
    let (inside, outside) =
        ([key(["a"]), key(["a", ""]), key(["a", "b", "c"])], [key(["A"]), key(["a "]), key(["ab"]), key(["b"])]);
    for key in inside.iter().chain(&outside) {
        cx.set(key, "v").await?;
    }
    ensure_eq!(clear(&cx, key(["a"]).into()).await?, 3, "the number that `clear` of the prefix [a] returned");
    for key in inside {
        cx.expect_absent(key).await?;
    }
    for key in outside {
        cx.expect(key, "v").await?;
    }
    Ok(())
}

async fn every_prefix(cx: Context) -> Verdict {
    let keys = tree();
    let missing = [key(["", ""]), key(["a", "b", "c", "d"]), key(["none"]), key(["\u{10ffff}", "z"])];
    for prefix in keys.iter().cloned().chain(missing).map(KeyPrefix::from) {
        write(&cx, &keys).await?;
        let covered = expected_keys(&keys, &kv_core::ListQuery::new(prefix.clone()));
        ensure_eq!(
            clear(&cx, prefix.clone()).await?,
            count(&covered),
            "the number that `clear` of the prefix {prefix} returned"
        );
        let left: Vec<Key> = keys.iter().filter(|key| !covered.contains(key)).cloned().collect();
        ensure_eq!(cx.keys(()).await?, left, "the keys that `list` returned after `clear` of the prefix {prefix}");
    }
    Ok(())
}

async fn of_no_match(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    ensure_eq!(
        clear(&cx, key(["nothing"]).into()).await?,
        0,
        "the number that `clear` of a prefix without keys returned"
    );
    ensure_eq!(
        clear(&cx, key(["z", ""]).into()).await?,
        0,
        "the number that `clear` of a prefix below a key without children returned"
    );
    ensure_eq!(cx.keys(()).await?, tree(), "the keys that `list` returned after `clear` of prefixes without keys");
    Ok(())
}

async fn the_empty_segment_is_not_everything(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    ensure_eq!(clear(&cx, key([""]).into()).await?, 2, "the number that `clear` of the prefix [\"\"] returned");
    let left: Vec<Key> = tree().into_iter().skip(2).collect();
    ensure_eq!(cx.keys(()).await?, left, "the keys that `list` returned after `clear` of the prefix [\"\"]");
    Ok(())
}

async fn patterns_mean_nothing(cx: Context) -> Verdict {
    let patterns = ["*", "?", "a*", "[ab]", "%", "_", "a%", "\\", ".*"];
    for prefix in patterns {
        for name in ["a", "ab", "b"] {
            cx.set([name], "v").await?;
        }
        cx.set([prefix, "child"], "v").await?;
        ensure_eq!(
            clear(&cx, key([prefix]).into()).await?,
            1,
            "the number that `clear` of the prefix [{prefix}] returned"
        );
        ensure_eq!(
            cx.keys(()).await?,
            [key(["a"]), key(["ab"]), key(["b"])],
            "the keys that `list` returned after `clear` of the prefix [{prefix}]"
        );
    }
    Ok(())
}

async fn twice(cx: Context) -> Verdict {
    write(&cx, &tree()).await?;
    clear(&cx, KeyPrefix::ALL).await?;
    ensure_eq!(clear(&cx, KeyPrefix::ALL).await?, 0, "the number that the second `clear` returned");
    Ok(())
}

async fn entries_with_a_deadline(cx: Context) -> Verdict {
    cx.set(["permanent"], "v").await?;
    cx.set_ttl(["long"], "v", std::time::Duration::from_secs(3_600)).await?;
    ensure_eq!(
        clear(&cx, KeyPrefix::ALL).await?,
        2,
        "the number that `clear` of a permanent and an expiring entry returned"
    );
    cx.expect_absent(["long"]).await
}

async fn written_again(cx: Context) -> Verdict {
    let ttl = std::time::Duration::from_millis(300);
    cx.set_ttl(["k"], "old", ttl).await?;
    clear(&cx, KeyPrefix::ALL).await?;
    cx.set(["k"], "new").await?;
    cx.advance_past(ttl).await;
    cx.expect(["k"], "new").await
}

async fn versions_do_not_return(cx: Context) -> Verdict {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let version = cx.set_versioned(["k"], "same").await?;
        ensure!(!seen.contains(&version), "`set` returned the version {version} a second time after `clear`");
        seen.push(version);
        clear(&cx, KeyPrefix::ALL).await?;
    }
    Ok(())
}

async fn five_thousand(cx: Context) -> Verdict {
    let items: Vec<_> = (0..5_000).map(|at| SetItem::new(key(["many", &at.to_string()]), "v")).collect();
    cx.set(["kept"], "v").await?;
    cx.set_many(&items).await?;
    ensure_eq!(clear(&cx, key(["many"]).into()).await?, 5_000, "the number that `clear` returned");
    ensure_eq!(cx.keys(()).await?, [key(["kept"])], "the keys that `list` returned after `clear` of another prefix");
    Ok(())
}

async fn longer_than_a_page(cx: Context) -> Verdict {
    let size = (1 << 20).min(cx.limits().max_value_bytes);
    let count = 2 * kv_core::ListQuery::DEFAULT_PAGE_BYTES / size.max(1) + 1;
    for at in 0..count.min(100) {
        cx.set(["long", &at.to_string()], vec![b'v'; size]).await?;
    }
    cx.set(["kept"], "v").await?;
    ensure_eq!(clear(&cx, key(["long"]).into()).await?, count.min(100) as u64, "the number that `clear` returned");
    ensure_eq!(cx.keys(()).await?, [key(["kept"])], "the keys that `list` returned after `clear` of another prefix");
    Ok(())
}

async fn while_others_write(cx: Context) -> Verdict {
    let before: Vec<Key> = (0..500).map(|at| key(["k", &format!("{at:03}")])).collect();
    write(&cx, &before).await?;
    let writing = tokio::spawn({
        let cx = cx.clone();
        async move {
            for at in 0..500 {
                cx.set(["k", &format!("{at:03} other")], "v").await?;
                cx.set(["outside", &at.to_string()], "v").await?;
                tokio::task::yield_now().await;
            }
            Ok::<(), Failure>(())
        }
    });
    let cleared = clear(&cx, key(["k"]).into()).await?;
    ensure!(cleared >= 500, "`clear` returned {cleared}, but at least 500 entries existed at the call");
    for key in before {
        cx.expect_absent(key).await?;
    }
    writing.await.map_err(|error| Failure::new(format!("the writing task panicked: {error}")))??;
    ensure_eq!(
        cx.keys(["outside"]).await?.len(),
        500,
        "the number of keys that `list` returned outside the cleared prefix"
    );
    Ok(())
}

async fn of_one_namespace(cx: Context) -> Verdict {
    let names = [vec!["app"], vec!["app2"], vec!["app", "eu"], vec!["ap"], vec![""], vec!["*"]];
    let mut stores = Vec::new();
    for name in names {
        let store = Namespaced::new(cx.store().clone(), Namespace::new(name)?);
        ensure!(
            store.set(&key(["k"]), "v".into(), &SetOptions::default()).await?.is_stored(),
            "`set` without a condition was refused"
        );
        stores.push(store);
    }
    while let Some(store) = stores.pop() {
        ensure_eq!(
            store.clear(&KeyPrefix::ALL).await?,
            1,
            "the number that `clear` of the namespace {} returned",
            store.namespace()
        );
        for other in &stores {
            let still_exists = other.contains(&key(["k"])).await?;
            ensure!(
                still_exists,
                "`clear` of the namespace {} removed an entry of the namespace {}",
                store.namespace(),
                other.namespace()
            );
        }
    }
    Ok(())
}

async fn of_one_store(cx: Context) -> Verdict {
    let other = cx.other_store().await?;
    cx.set(["k"], "mine").await?;
    ensure!(
        other.set(&key(["k"]), "other".into(), &SetOptions::default()).await?.is_stored(),
        "`set` without a condition was refused"
    );
    ensure_eq!(clear(&cx, KeyPrefix::ALL).await?, 1, "the number that `clear` of one store returned");
    let left = other.get(&key(["k"])).await?.map(|entry| entry.value);
    other.clear(&KeyPrefix::ALL).await?;
    other.close().await?;
    ensure_eq!(
        left.as_deref(),
        Some(b"other".as_slice()),
        "the value of the other store after `clear` of the first one"
    );
    Ok(())
}

async fn clear(cx: &Context, prefix: KeyPrefix) -> Result<u64, Failure> {
    Ok(cx.store().clear(&prefix).await?)
}

fn count(keys: &[Key]) -> u64 {
    keys.len() as u64
}
