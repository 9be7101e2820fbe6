//! `get_many`, `set_many` and `delete_many`.

use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    Capability, DeleteOutcome, Entry, ErrorKind, Expiry, Key, KvStore, SetItem, SetOptions, SetOutcome, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const PREVIOUS: Need = Need::Has(Capability::Previous);

const SOON: Duration = Duration::from_millis(400);

cases! { batch, Batch:
    get_many_answers_in_order: "B-1" [] "`get_many` returns results in input order, and none for absent keys";
    get_many_answers_duplicates: "B-1" [] "`get_many` returns a result for a key as often as the input contains the key";
    get_many_shows_whole_entries: "G-1" [] "`get_many` shows the same value, version and deadline as `get`";
    get_many_skips_the_expired: "T-1" [] "`get_many` returns none for an expired entry";
    empty_input: "B-1" [] "`get_many`, `set_many` and `delete_many` of an empty input return nothing";
    set_many_stores_all: "B-1" [] "`get` returns every value that `set_many` wrote";
    set_many_overwrites: "B-1" [] "a second `set_many` replaces the values and deadlines of the first `set_many`";
    set_many_keeps_the_order: "B-1" [] "if `set_many` has a key twice, the last write wins";
    set_many_fails_one_by_one: "B-1" [] "in `set_many`, only the item with a value over the limit fails, and the other items are stored";
    set_many_expires_one_by_one: "B-1" [] "each item of `set_many` has its own time to live";
    set_many_judges_one_by_one: "B-1" [CONDITIONS] "each item of `set_many` has its own condition, and a refusal does not affect other items";
    set_many_judges_in_order: "B-1" [CONDITIONS] "a condition in `set_many` sees the writes of earlier items";
    set_many_gives_previous: "B-1" [PREVIOUS] "each item of `set_many` with `return_previous` returns the entry that it replaced";
    delete_many_answers_each: "B-1" [] "`delete_many` reports for each key if it removed a live entry";
    delete_many_answers_duplicates: "B-1" [] "if `delete_many` has a key twice, the second delete removes nothing";
    delete_many_misses_the_expired: "T-1" [] "`delete_many` reports an expired entry as missing";
    a_thousand_keys: "B-1" [Need::KeepsAll] "`set_many`, `get_many` and `delete_many` accept 1,000 keys";
    megabytes_at_once: "B-1" [Need::KeepsAll] "`set_many` and `get_many` accept several values of 1 MiB";
    batches_at_once: "B-1" [Need::KeepsAll] "concurrent batches over the same keys in opposite orders do not deadlock";
}

/// The values that `get_many` returns.
async fn values(cx: &Context, keys: &[Key]) -> Result<Vec<Option<Bytes>>, Failure> {
    let answers = cx.store().get_many(keys).await;
    ensure_eq!(answers.len(), keys.len(), "the number of answers that `get_many` returned");
    Ok(answers
        .into_iter()
        .map(|answer| answer.map(|entry| entry.map(|entry| entry.value)))
        .collect::<Result<_, _>>()?)
}

/// The outcomes of a `set_many` whose items all succeed or are refused.
async fn store(cx: &Context, items: &[SetItem]) -> Result<Vec<SetOutcome>, Failure> {
    let outcomes = cx.store().set_many(items).await;
    ensure_eq!(outcomes.len(), items.len(), "the number of outcomes that `set_many` returned");
    Ok(outcomes.into_iter().collect::<Result<_, _>>()?)
}

async fn remove(cx: &Context, keys: &[Key]) -> Result<Vec<bool>, Failure> {
    let outcomes = cx.store().delete_many(keys).await;
    ensure_eq!(outcomes.len(), keys.len(), "the number of outcomes that `delete_many` returned");
    let mut removed = Vec::new();
    for outcome in outcomes {
        let outcome = outcome?;
        let is_fine = matches!(outcome, DeleteOutcome::Deleted { previous: None } | DeleteOutcome::Missing);
        ensure!(
            is_fine,
            "expected `delete_many` to return Missing, or Deleted without the entry, but it returned {outcome:?}"
        );
        removed.push(outcome.is_deleted());
    }
    Ok(removed)
}

fn keys<const N: usize>(names: [&str; N]) -> Vec<Key> {
    names.iter().map(|name| key([name])).collect()
}

fn item(name: &str, value: &'static str) -> SetItem {
    SetItem::new(key([name]), value)
}

async fn get_many_answers_in_order(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    cx.set(["b"], "").await?;
    cx.set(["c"], "3").await?;
    let found = values(&cx, &keys(["c", "missing", "a", "b"])).await?;
    ensure_eq!(
        found,
        vec![Some("3".into()), None, Some("1".into()), Some("".into())],
        "the values that `get_many` returned for c, missing, a, b"
    );
    Ok(())
}

async fn get_many_answers_duplicates(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    let found = values(&cx, &keys(["a", "missing", "a", "missing", "a"])).await?;
    let one = Some(Bytes::from("1"));
    ensure_eq!(
        found,
        vec![one.clone(), None, one.clone(), None, one],
        "the values that `get_many` returned for a, missing, a, missing, a"
    );
    Ok(())
}

async fn get_many_shows_whole_entries(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    cx.set_ttl(["b"], "2", Duration::from_secs(3_600)).await?;
    let found: Vec<Option<Entry>> =
        cx.store().get_many(&keys(["a", "b"])).await.into_iter().collect::<Result<_, _>>()?;
    ensure_eq!(
        found,
        vec![Some(cx.entry(["a"]).await?), Some(cx.entry(["b"]).await?)],
        "the entries that `get_many` returned"
    );
    Ok(())
}

async fn get_many_skips_the_expired(cx: Context) -> Verdict {
    cx.set_ttl(["a"], "1", SOON).await?;
    cx.set(["b"], "2").await?;
    cx.advance_past(SOON).await;
    ensure_eq!(
        values(&cx, &keys(["a", "b"])).await?,
        vec![None, Some("2".into())],
        "the values that `get_many` returned for a, which has expired, and b"
    );
    Ok(())
}

async fn empty_input(cx: Context) -> Verdict {
    let counts = [
        cx.store().get_many(&[]).await.len(),
        cx.store().set_many(&[]).await.len(),
        cx.store().delete_many(&[]).await.len(),
    ];
    ensure_eq!(
        counts,
        [0, 0, 0],
        "the number of answers that `get_many`, `set_many` and `delete_many` returned for an empty input"
    );
    Ok(())
}

async fn set_many_stores_all(cx: Context) -> Verdict {
    let outcomes = store(&cx, &[item("a", "1"), item("b", ""), item("c", "3")]).await?;
    ensure!(
        outcomes.iter().all(SetOutcome::is_stored),
        "expected all items of `set_many` to be stored, but it returned {outcomes:?}"
    );
    cx.expect(["a"], "1").await?;
    cx.expect(["b"], "").await?;
    cx.expect(["c"], "3").await
}

async fn set_many_overwrites(cx: Context) -> Verdict {
    let soon = SetOptions::default().with_expiry(Expiry::After(SOON));
    store(&cx, &[item("a", "1").with_options(soon.clone()), item("b", "2").with_options(soon)]).await?;
    store(&cx, &[item("b", "3"), item("a", "4")]).await?;
    cx.advance_past(SOON).await;
    cx.expect(["a"], "4").await?;
    cx.expect(["b"], "3").await
}

async fn set_many_keeps_the_order(cx: Context) -> Verdict {
    for _ in 0..5 {
        store(&cx, &[item("a", "1"), item("b", "2"), item("a", "3"), item("b", "4"), item("a", "5")]).await?;
        cx.expect(["a"], "5").await?;
        cx.expect(["b"], "4").await?;
    }
    Ok(())
}

async fn set_many_fails_one_by_one(cx: Context) -> Verdict {
    cx.set(["large"], "old").await?;
    let large = SetItem::new(key(["large"]), vec![0; cx.limits().max_value_bytes + 1]);
    let outcomes = cx.store().set_many(&[item("a", "1"), large, item("b", "2")]).await;
    match &outcomes[..] {
        [Ok(one), Err(error), Ok(two)] => {
            ensure!(
                one.is_stored() && two.is_stored(),
                "expected the items around the failed item to be stored, but `set_many` returned {one:?} and {two:?}"
            );
            ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of the error of the item over the limit");
        }
        _ => {
            return Err(Failure::new(format!(
                "expected `set_many` to store, fail and store three items, but it returned {outcomes:?}"
            )));
        }
    }
    cx.expect(["a"], "1").await?;
    cx.expect(["large"], "old").await?;
    cx.expect(["b"], "2").await
}

async fn set_many_expires_one_by_one(cx: Context) -> Verdict {
    let with = |expiry| SetOptions::default().with_expiry(expiry);
    cx.set_ttl(["keeps"], "0", SOON).await?;
    store(
        &cx,
        &[
            item("never", "1"),
            item("soon", "2").with_options(with(Expiry::After(SOON))),
            item("later", "3").with_options(with(Expiry::After(Duration::from_secs(3_600)))),
            item("at once", "4").with_options(with(Expiry::After(Duration::ZERO))),
        ],
    )
    .await?;
    cx.expect_absent(["at once"]).await?;
    cx.advance_past(SOON).await;
    cx.expect_absent(["soon"]).await?;
    cx.expect(["never"], "1").await?;
    cx.expect(["later"], "3").await
}

async fn set_many_judges_one_by_one(cx: Context) -> Verdict {
    let under = |when| SetOptions::default().with_when(when);
    cx.set(["there"], "old").await?;
    let old = cx.entry(["there"]).await?;
    let outcomes = store(
        &cx,
        &[
            item("a", "1").with_options(under(When::Absent)),
            item("there", "2").with_options(under(When::Absent)),
            item("missing", "3").with_options(under(When::Present)),
            item("b", "4"),
        ],
    )
    .await?;
    match &outcomes[..] {
        [one, two, three, four] => {
            ensure!(
                one.is_stored() && four.is_stored(),
                "expected the items around the refused items to be stored, but `set_many` returned {one:?} and {four:?}"
            );
            let refused_over_live = SetOutcome::Refused { current: Some(old) };
            ensure_eq!(*two, refused_over_live, "the outcome of an item with `When::Absent` over a live entry");
            let refused_over_none = SetOutcome::Refused { current: None };
            ensure_eq!(*three, refused_over_none, "the outcome of an item with `When::Present` over no entry");
        }
        _ => return Err(Failure::new(format!("expected four outcomes of `set_many`, but it returned {outcomes:?}"))),
    }
    cx.expect(["there"], "old").await?;
    cx.expect_absent(["missing"]).await?;
    cx.expect(["b"], "4").await
}

async fn set_many_judges_in_order(cx: Context) -> Verdict {
    let under = |when| SetOptions::default().with_when(when);
    let outcomes = store(
        &cx,
        &[
            item("a", "1").with_options(under(When::Absent)),
            item("a", "2").with_options(under(When::Absent)),
            item("a", "3").with_options(under(When::Value("1".into()))),
        ],
    )
    .await?;
    let stored: Vec<_> = outcomes.iter().map(SetOutcome::is_stored).collect();
    ensure_eq!(stored, [true, false, true], "the items of `set_many` that were stored, of three for one key");
    cx.expect(["a"], "3").await
}

async fn set_many_gives_previous(cx: Context) -> Verdict {
    cx.set(["a"], "old").await?;
    let old = cx.entry(["a"]).await?;
    let asking = SetOptions::default().with_previous();
    let outcomes =
        store(&cx, &[item("a", "1").with_options(asking.clone()), item("b", "2").with_options(asking)]).await?;
    let previous: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            SetOutcome::Stored { previous, .. } => previous,
            SetOutcome::Refused { current } => current,
        })
        .collect();
    ensure_eq!(previous, vec![Some(old), None], "the previous entries that `set_many` returned");
    Ok(())
}

async fn delete_many_answers_each(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    cx.set(["c"], "3").await?;
    cx.set(["stays"], "4").await?;
    ensure_eq!(
        remove(&cx, &keys(["a", "b", "c"])).await?,
        [true, false, true],
        "the keys of a, b, c that `delete_many` removed"
    );
    cx.expect_absent(["a"]).await?;
    cx.expect_absent(["c"]).await?;
    cx.expect(["stays"], "4").await
}

async fn delete_many_answers_duplicates(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    ensure_eq!(
        remove(&cx, &keys(["a", "a", "a"])).await?,
        [true, false, false],
        "the deletes of a, a, a in `delete_many` that removed an entry"
    );
    Ok(())
}

async fn delete_many_misses_the_expired(cx: Context) -> Verdict {
    cx.set_ttl(["a"], "1", SOON).await?;
    cx.set(["b"], "2").await?;
    cx.advance_past(SOON).await;
    ensure_eq!(
        remove(&cx, &keys(["a", "b"])).await?,
        [false, true],
        "the keys that `delete_many` removed of a, which has expired, and b"
    );
    Ok(())
}

async fn a_thousand_keys(cx: Context) -> Verdict {
    let all: Vec<Key> = (0..1_000).map(|number: u32| key(["k", &number.to_string()])).collect();
    let items: Vec<_> = all.iter().map(|key| SetItem::new(key.clone(), key.to_string())).collect();
    ensure!(
        store(&cx, &items).await?.iter().all(SetOutcome::is_stored),
        "`set_many` refused an item without a condition"
    );
    let expected: Vec<_> = all.iter().map(|key| Some(Bytes::from(key.to_string()))).collect();
    ensure_eq!(values(&cx, &all).await?, expected, "the values that `get_many` returned for 1,000 keys");
    ensure!(
        remove(&cx, &all).await?.iter().all(|&removed| removed),
        "`delete_many` reported for a live entry that it removed nothing"
    );
    ensure!(values(&cx, &all).await?.iter().all(Option::is_none), "`get_many` found an entry after `delete_many`");
    Ok(())
}

async fn megabytes_at_once(cx: Context) -> Verdict {
    let all: Vec<Key> = (0..8).map(|number: u32| key([&number.to_string()])).collect();
    let items: Vec<_> =
        all.iter().zip(0..).map(|(key, byte): (_, u8)| SetItem::new(key.clone(), vec![byte; 1 << 20])).collect();
    ensure!(
        store(&cx, &items).await?.iter().all(SetOutcome::is_stored),
        "`set_many` refused an item without a condition"
    );
    for (found, item) in values(&cx, &all).await?.into_iter().zip(items) {
        ensure!(
            found.as_ref() == Some(&item.value),
            "`get_many` did not return the value of 1 MiB that `set_many` wrote for {}",
            item.key
        );
    }
    Ok(())
}

async fn batches_at_once(cx: Context) -> Verdict {
    clients(&cx, 8, |cx, client| async move {
        let mut names: Vec<u32> = (0..20).collect();
        if client % 2 == 1 {
            names.reverse();
        }
        let all: Vec<Key> = names.iter().map(|name| key(["k", &name.to_string()])).collect();
        let items: Vec<_> = all.iter().map(|key| SetItem::new(key.clone(), client.to_string())).collect();
        for _ in 0..10 {
            store(&cx, &items).await?;
            if client == 0 {
                remove(&cx, &all).await?;
            }
        }
        store(&cx, &items).await?;
        Ok(())
    })
    .await?;
    let all: Vec<Key> = (0..20).map(|name: u32| key(["k", &name.to_string()])).collect();
    for value in values(&cx, &all).await? {
        ensure!(value.is_some(), "`get_many` found no entry for a key whose last writes were all sets");
    }
    Ok(())
}
