//! Several keys in one call.

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
    get_many_answers_in_order: "B-1" [] "get_many answers in input order, and none for what is missing";
    get_many_answers_duplicates: "B-1" [] "get_many answers a key as often as it stands in the input";
    get_many_shows_whole_entries: "G-1" [] "get_many shows value, version and deadline as get does";
    get_many_skips_the_expired: "T-1" [] "get_many has none for an expired entry";
    empty_input: "B-1" [] "get_many, set_many and delete_many of nothing give nothing";
    set_many_stores_all: "B-1" [] "everything that set_many wrote is read";
    set_many_overwrites: "B-1" [] "a second set_many replaces values and deadlines of the first";
    set_many_keeps_the_order: "B-1" [] "where a key stands twice in set_many the last write stands";
    set_many_fails_one_by_one: "B-1" [] "a value over the limit fails alone, and the others are stored";
    set_many_expires_one_by_one: "B-1" [] "each entry of set_many has its own time to live";
    set_many_judges_one_by_one: "B-1" [CONDITIONS] "each entry of set_many has its own condition and is refused alone";
    set_many_judges_in_order: "B-1" [CONDITIONS] "a condition in set_many sees what stood before it in the input";
    set_many_gives_previous: "B-1" [PREVIOUS] "each entry of set_many gives what it replaced, on request only";
    delete_many_answers_each: "B-1" [] "delete_many tells for each key whether a live entry was removed";
    delete_many_answers_duplicates: "B-1" [] "the second delete of a key in delete_many removes nothing";
    delete_many_misses_the_expired: "T-1" [] "delete_many says that an expired entry was missing";
    a_thousand_keys: "B-1" [Need::KeepsAll] "set_many, get_many and delete_many take a thousand keys";
    megabytes_at_once: "B-1" [Need::KeepsAll] "set_many and get_many take values of a mebibyte";
    batches_at_once: "B-1" [Need::KeepsAll] "concurrent batches over the same keys in opposite orders all end";
}

/// The values that `get_many` gives.
async fn values(cx: &Context, keys: &[Key]) -> Result<Vec<Option<Bytes>>, Failure> {
    let answers = cx.store().get_many(keys).await;
    ensure_eq!(answers.len(), keys.len(), "the number of answers");
    Ok(answers
        .into_iter()
        .map(|answer| answer.map(|entry| entry.map(|entry| entry.value)))
        .collect::<Result<_, _>>()?)
}

/// The outcomes of a `set_many` that fails nowhere.
async fn store(cx: &Context, items: &[SetItem]) -> Result<Vec<SetOutcome>, Failure> {
    let outcomes = cx.store().set_many(items).await;
    ensure_eq!(outcomes.len(), items.len(), "the number of outcomes");
    Ok(outcomes.into_iter().collect::<Result<_, _>>()?)
}

async fn remove(cx: &Context, keys: &[Key]) -> Result<Vec<bool>, Failure> {
    let outcomes = cx.store().delete_many(keys).await;
    ensure_eq!(outcomes.len(), keys.len(), "the number of outcomes");
    let mut removed = Vec::new();
    for outcome in outcomes {
        let outcome = outcome?;
        let is_fine = matches!(outcome, DeleteOutcome::Deleted { previous: None } | DeleteOutcome::Missing);
        ensure!(is_fine, "delete_many gives {outcome:?}");
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
        "the values of c, missing, a, b"
    );
    Ok(())
}

async fn get_many_answers_duplicates(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    let found = values(&cx, &keys(["a", "missing", "a", "missing", "a"])).await?;
    let one = Some(Bytes::from("1"));
    ensure_eq!(found, vec![one.clone(), None, one.clone(), None, one], "the values of a and missing, in turns");
    Ok(())
}

async fn get_many_shows_whole_entries(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    cx.set_ttl(["b"], "2", Duration::from_secs(3_600)).await?;
    let found: Vec<Option<Entry>> =
        cx.store().get_many(&keys(["a", "b"])).await.into_iter().collect::<Result<_, _>>()?;
    ensure_eq!(found, vec![Some(cx.entry(["a"]).await?), Some(cx.entry(["b"]).await?)], "the entries");
    Ok(())
}

async fn get_many_skips_the_expired(cx: Context) -> Verdict {
    cx.set_ttl(["a"], "1", SOON).await?;
    cx.set(["b"], "2").await?;
    cx.outlive(SOON).await;
    ensure_eq!(values(&cx, &keys(["a", "b"])).await?, vec![None, Some("2".into())], "the values of a and b");
    Ok(())
}

async fn empty_input(cx: Context) -> Verdict {
    let counts = [
        cx.store().get_many(&[]).await.len(),
        cx.store().set_many(&[]).await.len(),
        cx.store().delete_many(&[]).await.len(),
    ];
    ensure_eq!(counts, [0, 0, 0], "the number of answers to nothing");
    Ok(())
}

async fn set_many_stores_all(cx: Context) -> Verdict {
    let outcomes = store(&cx, &[item("a", "1"), item("b", ""), item("c", "3")]).await?;
    ensure!(outcomes.iter().all(SetOutcome::is_stored), "the outcomes are {outcomes:?}");
    cx.expect(["a"], "1").await?;
    cx.expect(["b"], "").await?;
    cx.expect(["c"], "3").await
}

async fn set_many_overwrites(cx: Context) -> Verdict {
    let soon = SetOptions::default().with_expiry(Expiry::After(SOON));
    store(&cx, &[item("a", "1").with_options(soon.clone()), item("b", "2").with_options(soon)]).await?;
    store(&cx, &[item("b", "3"), item("a", "4")]).await?;
    cx.outlive(SOON).await;
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
            ensure!(one.is_stored() && two.is_stored(), "the outcomes beside it are {one:?} and {two:?}");
            ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of the error");
        }
        _ => return Err(Failure::new(format!("the outcomes are {outcomes:?}"))),
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
    cx.outlive(SOON).await;
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
            ensure!(one.is_stored() && four.is_stored(), "the outcomes beside the refused are {one:?} and {four:?}");
            ensure_eq!(*two, SetOutcome::Refused { current: Some(old) }, "the outcome of Absent over a live entry");
            ensure_eq!(*three, SetOutcome::Refused { current: None }, "the outcome of Present over nothing");
        }
        _ => return Err(Failure::new(format!("the outcomes are {outcomes:?}"))),
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
    ensure_eq!(stored, [true, false, true], "which of three writes of one key were stored");
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
    ensure_eq!(previous, vec![Some(old), None], "the previous entries");
    Ok(())
}

async fn delete_many_answers_each(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    cx.set(["c"], "3").await?;
    cx.set(["stays"], "4").await?;
    ensure_eq!(remove(&cx, &keys(["a", "b", "c"])).await?, [true, false, true], "which of a, b, c were removed");
    cx.expect_absent(["a"]).await?;
    cx.expect_absent(["c"]).await?;
    cx.expect(["stays"], "4").await
}

async fn delete_many_answers_duplicates(cx: Context) -> Verdict {
    cx.set(["a"], "1").await?;
    ensure_eq!(remove(&cx, &keys(["a", "a", "a"])).await?, [true, false, false], "which deletes of a removed it");
    Ok(())
}

async fn delete_many_misses_the_expired(cx: Context) -> Verdict {
    cx.set_ttl(["a"], "1", SOON).await?;
    cx.set(["b"], "2").await?;
    cx.outlive(SOON).await;
    ensure_eq!(remove(&cx, &keys(["a", "b"])).await?, [false, true], "which of a and b were removed");
    Ok(())
}

async fn a_thousand_keys(cx: Context) -> Verdict {
    let all: Vec<Key> = (0..1_000).map(|number: u32| key(["k", &number.to_string()])).collect();
    let items: Vec<_> = all.iter().map(|key| SetItem::new(key.clone(), key.to_string())).collect();
    ensure!(store(&cx, &items).await?.iter().all(SetOutcome::is_stored), "a write without condition was refused");
    let expected: Vec<_> = all.iter().map(|key| Some(Bytes::from(key.to_string()))).collect();
    ensure_eq!(values(&cx, &all).await?, expected, "the values of a thousand keys");
    ensure!(remove(&cx, &all).await?.iter().all(|&removed| removed), "a delete says that nothing was removed");
    ensure!(values(&cx, &all).await?.iter().all(Option::is_none), "a key is there after delete_many");
    Ok(())
}

async fn megabytes_at_once(cx: Context) -> Verdict {
    let all: Vec<Key> = (0..8).map(|number: u32| key([&number.to_string()])).collect();
    let items: Vec<_> =
        all.iter().zip(0..).map(|(key, byte): (_, u8)| SetItem::new(key.clone(), vec![byte; 1 << 20])).collect();
    ensure!(store(&cx, &items).await?.iter().all(SetOutcome::is_stored), "a write without condition was refused");
    for (found, item) in values(&cx, &all).await?.into_iter().zip(items) {
        ensure!(found.as_ref() == Some(&item.value), "the value of {} is not what was written", item.key);
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
        ensure!(value.is_some(), "a key is absent, and its last writes were all sets");
    }
    Ok(())
}
