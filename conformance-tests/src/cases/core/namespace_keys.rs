//! Stored keys that are longer than [`Key::MAX_BYTES`] because of their namespace, up to [`Namespace::MAX_KEY_BYTES`].

use std::time::Duration;

use kv_core::{
    Capability, Expiry, Key, KeyPrefix, KvStore, Namespace, NewExpiry, SetItem, Transaction, WatchQuery, When,
};

use super::keys::{expect_distinct, number, read_all, write_all};
use crate::case::{Need, cases};
use crate::context::{Context, display_key, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::{Subscriber, Watcher};

const LONGEST: Need = Need::LongestNamespace;

cases! { namespace_keys, Core:
    are_their_own_entries: "K-5" [LONGEST] "the longest keys work in the longest namespace, and differ if only their last bytes differ";
    are_listed: "L-1" [LONGEST, Need::Has(Capability::List)] "`list` returns the longest keys of the longest namespace, in order, in both directions and in pages";
    are_cleared: "L-5" [LONGEST, Need::Has(Capability::List)] "`clear` removes and counts the longest keys of the longest namespace";
    expire: "T-1" [LONGEST] "the longest keys of the longest namespace expire at their deadline";
    are_swept: "T-6" [LONGEST] "`sweep` removes expired entries with the longest keys of the longest namespace, and leaves entries that were written again";
    are_touched: "T-5" [LONGEST, Need::Has(Capability::Touch)] "`touch` moves the deadline of the longest keys of the longest namespace";
    are_watched: "W-1" [LONGEST, Need::Has(Capability::Watch)] "a watch reports changes of the longest keys of the longest namespace";
    carry_messages: "P-1" [LONGEST, Need::Has(Capability::Messages)] "messages of the longest channels of the longest namespace arrive";
    survive: "R-3" [LONGEST, Need::Reopen] "a store with the longest keys of the longest namespace opens again, with all its entries";
    are_committed: "X-1" [LONGEST, Need::Has(Capability::Transactions)] "a transaction checks, sets and deletes the longest keys of the longest namespace";
}

const TTL: Duration = Duration::from_millis(300);

/// The contexts on two namespaces of the maximum length. One namespace has one segment, the other has several segments
/// with escaped bytes.
fn longest_namespaces(cx: &Context) -> Result<[Context; 2], Failure> {
    // A separator between segments is stored as three bytes, and a space as five.
    let several = ["n".repeat(Namespace::MAX_BYTES - 12), " ".to_owned(), "n".to_owned()];
    let namespaces = [Namespace::new(["n".repeat(Namespace::MAX_BYTES)])?, Namespace::new(several)?];
    for namespace in &namespaces {
        let stored = namespace.wrap(&key([""]));
        ensure_eq!(stored.as_str().len(), Namespace::MAX_BYTES + 1, "the encoded length of the longest namespace");
    }
    Ok(namespaces.map(|namespace| cx.in_namespace(&namespace)))
}

/// Long keys in order: of the maximum length, one byte shorter, and of the lengths at which the stored key has
/// [`Key::MAX_BYTES`] or one byte more. All of these keys but one have a single segment.
fn long_keys() -> Result<Vec<Key>, Failure> {
    let around = Namespace::MAX_BYTES + 1;
    let lengths = [Key::MAX_BYTES, Key::MAX_BYTES - 1, Key::MAX_BYTES - around + 1, Key::MAX_BYTES - around];
    let mut keys = Vec::new();
    for length in lengths {
        for end in ["a", "b"] {
            keys.push(Key::new([format!("{}{end}", "k".repeat(length - 1))])?);
        }
    }
    keys.push(Key::new(["🦀".repeat(Key::MAX_BYTES / 4)])?);
    keys.push(Key::new([format!("{}xx", "\0".repeat(Key::MAX_BYTES / 3))])?);
    keys.push(Key::new(vec!["x"; Key::MAX_BYTES / 2])?.child("")?);
    keys.sort();
    Ok(keys)
}

async fn are_their_own_entries(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        expect_distinct(&inside, keys.clone()).await?;
        for (at, key) in keys.iter().enumerate() {
            inside.set(key, number(at)).await?;
        }
        read_all(&inside, &keys).await?;
        for (entry, at) in inside.store().get_many(&keys).await.into_iter().zip(0..) {
            let value = entry?.map(|entry| entry.value);
            ensure_eq!(value, Some(number(at).into()), "the value that `get_many` returned for long key {at}");
        }
    }
    Ok(())
}

async fn are_listed(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        write_all(&inside, &keys).await?;
        for limit in [None, Some(1), Some(3)] {
            for reverse in [false, true] {
                let mut query = kv_core::ListQuery::default();
                (query.limit, query.reverse, query.keys_only) = (limit, reverse, limit.is_none());
                let mut expected = keys.clone();
                if reverse {
                    expected.reverse();
                }
                let items = inside.list_all(query.clone()).await?;
                let lengths = |keys: &[Key]| keys.iter().map(|key| key.as_str().len()).collect::<Vec<_>>();
                let listed: Vec<Key> = items.into_iter().map(|item| item.key).collect();
                ensure_eq!(
                    lengths(&listed),
                    lengths(&expected),
                    "the lengths of the keys that `list` returned for {query:?}"
                );
                ensure_eq!(listed, expected, "the keys that `list` returned for {query:?}");
            }
        }
        for key in &keys {
            ensure_eq!(
                inside.keys(key).await?,
                std::slice::from_ref(key),
                "the keys that `list` returned under the long key itself"
            );
        }
    }
    Ok(())
}

async fn are_cleared(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        write_all(&inside, &keys).await?;
        if let Some(first) = keys.first() {
            let cleared = inside.store().clear(&first.into()).await?;
            ensure_eq!(cleared, 1, "the number that `clear` of the prefix of a long key returned");
            inside.expect_absent(first).await?;
        }
        let cleared = inside.store().clear(&KeyPrefix::ALL).await?;
        ensure_eq!(cleared, keys.len() as u64 - 1, "the number that `clear` of the namespace returned");
        for key in &keys {
            inside.expect_absent(key).await?;
        }
    }
    Ok(())
}

async fn expire(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        for key in &keys {
            inside.set_ttl(key, "v", TTL).await?;
        }
        cx.advance_past(TTL).await;
        for key in &keys {
            inside.expect_absent(key).await?;
        }
        if inside.has(Capability::List) {
            ensure_eq!(inside.keys(()).await?, [], "the keys that `list` returned after all had expired");
        }
        // The keys can be written again, without their old deadline.
        write_all(&inside, &keys).await?;
        cx.advance_past(TTL).await;
        read_all(&inside, &keys).await?;
    }
    Ok(())
}

async fn are_swept(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        for key in &keys {
            inside.set_ttl(key, "v", TTL).await?;
        }
        cx.advance_past(TTL).await;
        let (again, gone) = keys.split_at(keys.len() / 2);
        write_all(&inside, again).await?;
        inside.store().sweep().await?;
        read_all(&inside, again).await?;
        for key in gone {
            inside.expect_absent(key).await?;
        }
        if inside.has(Capability::List) {
            ensure_eq!(inside.keys(()).await?, again, "the keys that `list` returned after `sweep`");
        }
    }
    Ok(())
}

async fn are_touched(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let keys = long_keys()?;
        let (longer, shorter) = keys.split_at(keys.len() / 2);
        let mut touched = Vec::new();
        for key in longer {
            inside.set_ttl(key, "v", TTL).await?;
            let is_found = inside.store().touch(key, NewExpiry::Never).await?;
            // The key may have expired if the case ran slowly.
            ensure!(is_found || !cx.moves_clock(), "`touch` returned false for the live key {}", display_key(key));
            touched.extend(is_found.then_some(key));
        }
        for key in shorter {
            inside.set(key, "v").await?;
            let is_found = inside.store().touch(key, NewExpiry::After(TTL)).await?;
            ensure!(is_found, "`touch` returned false for the live key {}", display_key(key));
        }
        cx.advance_past(TTL).await;
        for key in touched {
            inside.expect(key, "v").await?;
        }
        for key in shorter {
            inside.expect_absent(key).await?;
        }
    }
    Ok(())
}

async fn are_watched(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let mut of_all = Watcher::start(inside.store(), WatchQuery::prefix(KeyPrefix::ALL)).await?;
        for key in long_keys()? {
            let mut of_key = Watcher::start(inside.store(), WatchQuery::key(key.clone())).await?;
            inside.set(&key, "v").await?;
            of_all.expect_set(&key, "v").await?;
            of_key.expect_set(&key, "v").await?;
            inside.delete(&key).await?;
            of_all.expect_removed(&key).await?;
            of_key.expect_removed(&key).await?;
        }
    }
    Ok(())
}

async fn carry_messages(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        let mut of_all = Subscriber::start(inside.store(), KeyPrefix::ALL).await?;
        for channel in long_keys()? {
            let mut of_channel = Subscriber::start(inside.store(), &channel).await?;
            inside.store().publish(&channel, "hello".into()).await?;
            of_all.expect_message(&channel, "hello").await?;
            of_channel.expect_message(&channel, "hello").await?;
        }
    }
    Ok(())
}

async fn survive(mut cx: Context) -> Verdict {
    let keys = long_keys()?;
    for inside in longest_namespaces(&cx)? {
        write_all(&inside, &keys).await?;
    }
    // In the second round, the store opens the entries that it wrote after the first reopen.
    for round in ["first", "second"] {
        cx.reopen().await?;
        for inside in longest_namespaces(&cx)? {
            read_all(&inside, &keys).await?;
            if inside.has(Capability::List) {
                ensure_eq!(inside.keys(()).await?, keys, "the keys that `list` returned after the {round} reopen");
            }
            inside.set(["k"], round).await?;
            inside.delete(["k"]).await?;
        }
    }
    for inside in longest_namespaces(&cx)? {
        for key in &keys {
            ensure!(inside.delete(key).await?, "`delete` removed nothing for {}", display_key(key));
        }
    }
    cx.reopen().await?;
    for inside in longest_namespaces(&cx)? {
        for key in &keys {
            inside.expect_absent(key).await?;
        }
    }
    Ok(())
}

async fn are_committed(cx: Context) -> Verdict {
    for inside in longest_namespaces(&cx)? {
        // All keys share their first four segments, so they are in one transaction group.
        let one = |end: &str| {
            let last = Key::MAX_BYTES - "g#g#g#g#".len();
            Key::new(["g", "g", "g", "g", &format!("{}{end}", "k".repeat(last - 1))])
        };
        let (from, to) = (one("a")?, one("b")?);
        inside.set_many(&[SetItem::new(from.clone(), "v")]).await?;
        let transaction = Transaction::new()
            .check(from.clone(), When::Value("v".into()))
            .check(to.clone(), When::Absent)
            .delete(from.clone())
            .set(to.clone(), "v", Expiry::Never);
        let outcome = inside.store().commit(&transaction).await?;
        ensure!(outcome.is_committed(), "expected `commit` to be committed, but it returned {outcome:?}");
        inside.expect_absent(&from).await?;
        inside.expect(&to, "v").await?;
        let outcome = inside.store().commit(&transaction).await?;
        ensure!(!outcome.is_committed(), "`commit` of the same transaction was committed again");
        inside.expect(&to, "v").await?;
    }
    Ok(())
}
