//! The declared freshness of reads: own writes, the writes of other handles, and the judgement of conditions.

use std::time::Duration;

use kv_core::{
    Capability, Expiry, GetOptions, GetOutcome, IncrementOptions, Key, KvStore, ListQuery, Moment, Reads, SetItem,
    SetOptions, SetOutcome, Transaction, Version, When,
};
use tokio::task::JoinSet;

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;

const TWO: Need = Need::SecondHandle;
const KEEPS_ALL: Need = Need::KeepsAll;

cases! { bounded_reads, Core:
    show_own_writes: "G-3" [KEEPS_ALL] "after a write by any path, every read through the same handle shows it";
    show_other_handles_in_time: "G-3" [TWO, KEEPS_ALL] "a write through another handle is visible to every read within the declared time, or at once if reads are linearizable";
    of_two_handles_never_go_back: "G-3" [TWO, KEEPS_ALL] "while another handle writes, the reads of a key through one handle never go back, whatever operation answered";
    fresh_reads_show_other_handles_at_once: "G-4" [TWO, KEEPS_ALL] "`get_with` with `fresh` shows the acknowledged writes of another handle at once";
    conditions_are_judged_by_the_store: "G-3" [TWO, KEEPS_ALL, Need::Has(Capability::Conditions)] "conditions and counters see the acknowledged writes of another handle at once, also if a read still shows an older entry";
}

/// The time within which the writes of other handles must be visible.
fn bound(cx: &Context) -> Duration {
    match cx.store().info().reads {
        Reads::Bounded(bound) => bound,
        _ => Duration::ZERO,
    }
}

/// A read of a number: the operation, the moment of its call, and the number, or zero for an absent key.
struct Seen {
    operation: &'static str,
    called: Moment,
    number: u64,
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads the key by every operation that shows an entry. The key must be present if conditions are used.
async fn read_all(cx: &Context, store: &Recorder, key: &Key, with_refusal: bool) -> Result<Vec<Seen>, Failure> {
    let mut seen = Vec::new();
    let mut note = |operation, called, number| seen.push(Seen { operation, called, number });
    let called = Moment::now();
    note("get", called, store.get(key).await?.map_or(0, |entry| number(&entry.value)));
    if with_refusal && cx.has(Capability::Conditions) {
        let called = Moment::now();
        let options = SetOptions::default().with_when(When::Absent);
        if let SetOutcome::Refused { current: Some(entry) } = store.set(key, "0".into(), &options).await? {
            note("a refused set", called, number(&entry.value));
        }
    }
    let called = Moment::now();
    let found = match store.get_with(key, &GetOptions::default()).await? {
        GetOutcome::Found(entry) => number(&entry.value),
        _ => 0,
    };
    note("get_with", called, found);
    let called = Moment::now();
    for found in store.get_many(std::slice::from_ref(key)).await {
        note("get_many", called, found?.map_or(0, |entry| number(&entry.value)));
    }
    if cx.has(Capability::List) {
        let called = Moment::now();
        let items = store.list(&ListQuery::new(key.clone())).await?.items;
        let entry = items.into_iter().find(|item| item.key == *key).and_then(|item| item.entry);
        note("list", called, entry.map_or(0, |entry| number(&entry.value)));
    }
    Ok(seen)
}

/// Reads the key by every operation, and by `get` once more, so that a store with copies has one.
async fn warm(cx: &Context, store: &Recorder, key: &Key, with_refusal: bool) -> Verdict {
    read_all(cx, store, key, with_refusal).await?;
    store.get(key).await?;
    Ok(())
}

/// Sets a number without a condition.
async fn set(store: &Recorder, key: &Key, number: u64) -> Result<Option<Version>, Failure> {
    Ok(store.set(key, number.to_string().into(), &SetOptions::default()).await?.version())
}

async fn show_own_writes(cx: Context) -> Verdict {
    let k = key(["k"]);
    let store = cx.store();
    let mut expected = 0;
    for round in 0..5 {
        for path in ["set", "set_many", "increment", "commit", "delete", "set of an absent key", "clear"] {
            warm(&cx, store, &k, expected != 0).await?;
            let next = (round + 1) * 100 + expected % 100 + 1;
            match path {
                "set" | "set of an absent key" => drop(set(store, &k, next).await?),
                "set_many" => cx.set_many(&[SetItem::new(k.clone(), next.to_string())]).await?,
                "increment" if cx.has(Capability::Counters) => {
                    set(store, &k, next - 1).await?;
                    warm(&cx, store, &k, true).await?;
                    store.increment(&k, 1, &IncrementOptions::default()).await?;
                }
                "commit" if cx.has(Capability::Transactions) => {
                    let transaction = Transaction::new().set(k.clone(), next.to_string(), Expiry::Never);
                    ensure!(store.commit(&transaction).await?.is_committed(), "the transaction was refused");
                }
                "delete" => drop(cx.delete(&k).await?),
                "clear" if cx.has(Capability::List) => drop(store.clear(&(&k).into()).await?),
                _ => continue,
            }
            expected = if matches!(path, "delete" | "clear") { 0 } else { next };
            for Seen { operation, number, .. } in read_all(&cx, store, &k, expected != 0).await? {
                ensure_eq!(number, expected, "the number that {operation} showed after an own {path}");
            }
        }
    }
    Ok(())
}

async fn show_other_handles_in_time(cx: Context) -> Verdict {
    let (k, bound) = (key(["k"]), bound(&cx));
    let [reader, writer] = cx.unsettled_handles().await?;
    set(&writer, &k, 1).await?;
    for written in 2..=20 {
        warm(&cx, &reader, &k, written % 2 == 0).await?;
        set(&writer, &k, written).await?;
        let acknowledged = Moment::now();
        let mut judged = Vec::new();
        // Only `get` is repeated, because other reads may make a store with copies forget them.
        while judged.last().is_none_or(|seen: &Seen| seen.number < written && seen.called.since(acknowledged) < bound) {
            let called = Moment::now();
            let number = reader.get(&k).await?.map_or(0, |entry| number(&entry.value));
            judged.push(Seen { operation: "get", called, number });
            cx.wait(bound / 10).await;
        }
        judged.extend(read_all(&cx, &reader, &k, false).await?);
        for Seen { operation, called, number } in judged {
            let age = called.since(acknowledged);
            ensure!(
                number >= written || age < bound,
                "{operation} showed the write {number}, {age:?} after another handle's write {written} was \
                 acknowledged, and the declared time is {bound:?}"
            );
        }
    }
    Ok(())
}

/// Reads the key by the operation, if the store has it, and then by `get`, which must not show an older number.
async fn expect_as_new_as(cx: &Context, store: &Recorder, key: &Key, operation: &str) -> Verdict {
    let shown = if operation == "list" && cx.has(Capability::List) {
        let items = store.list(&ListQuery::new(key.clone())).await?.items;
        items.into_iter().find(|item| item.key == *key).and_then(|item| item.entry)
    } else if operation != "list" && cx.has(Capability::Conditions) {
        match store.set(key, "0".into(), &SetOptions::default().with_when(When::Absent)).await? {
            SetOutcome::Refused { current } => current,
            outcome @ SetOutcome::Stored { .. } => {
                return Err(Failure::new(format!("the set of a present key if absent was stored: {outcome:?}")));
            }
        }
    } else {
        return Ok(());
    };
    let shown = shown.map_or(0, |entry| number(&entry.value));
    let found = store.get(key).await?.map_or(0, |entry| number(&entry.value));
    ensure!(found >= shown, "{operation} showed the write {shown}, and the next `get` showed {found}");
    Ok(())
}

async fn of_two_handles_never_go_back(cx: Context) -> Verdict {
    const ROUNDS: u64 = 20;
    const WRITES: u64 = 150;
    let k = key(["k"]);
    let [reader, writer] = cx.unsettled_handles().await?;
    set(&writer, &k, 1).await?;
    // Without other tasks first: the next `get` is as new as the entry that a refused set or a list showed.
    for written in 2..=ROUNDS {
        warm(&cx, &reader, &k, true).await?;
        set(&writer, &k, written).await?;
        expect_as_new_as(&cx, &reader, &k, if written % 2 == 0 { "a refused set" } else { "list" }).await?;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let (cx, k, reader) = (cx.clone(), k.clone(), reader.clone());
        tasks.spawn(async move {
            let mut last = ("the first set", 0);
            while last.1 < WRITES {
                for Seen { operation, number, .. } in read_all(&cx, &reader, &k, true).await? {
                    ensure!(number >= last.1, "{} showed the write {}, and {operation} then {number}", last.0, last.1);
                    last = (operation, number);
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        });
    }
    for number in ROUNDS + 1..=WRITES {
        set(&writer, &k, number).await?;
        cx.wait(Duration::from_millis(1)).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Failure::new(format!("a reading task panicked: {error}")))??;
    }
    Ok(())
}

async fn fresh_reads_show_other_handles_at_once(cx: Context) -> Verdict {
    let k = key(["k"]);
    let [reader, writer] = cx.unsettled_handles().await?;
    for written in 1..=20 {
        warm(&cx, &reader, &k, false).await?;
        set(&writer, &k, written).await?;
        let options = GetOptions::default().with_fresh();
        let GetOutcome::Found(entry) = reader.get_with(&k, &options).await? else {
            return Err(Failure::new("`get_with` with `fresh` found no entry after the set of another handle"));
        };
        ensure_eq!(number(&entry.value), written, "the number that a fresh read showed");
    }
    Ok(())
}

async fn conditions_are_judged_by_the_store(cx: Context) -> Verdict {
    let k = key(["k"]);
    let [own, other] = cx.unsettled_handles().await?;
    for round in 0..10 {
        let old = set(&own, &k, 1).await?;
        warm(&cx, &own, &k, false).await?;
        set(&other, &k, 2).await?;
        let when = match old {
            Some(version) if round % 2 == 0 => When::Version(version),
            _ => When::Value("1".into()),
        };
        let outcome = own.set(&k, "3".into(), &SetOptions::default().with_when(when)).await?;
        let SetOutcome::Refused { current } = outcome else {
            return Err(Failure::new("a set was stored, although another handle had replaced the expected entry"));
        };
        let current = current.map(|entry| number(&entry.value));
        ensure_eq!(current, Some(2), "the current number that the refused set showed");
        if cx.has(Capability::Counters) {
            other.increment(&k, 1, &IncrementOptions::default()).await?;
            let sum = own.increment(&k, 1, &IncrementOptions::default()).await?;
            ensure_eq!(sum, 4, "the sum of an increment after another handle's increment");
        }
    }
    Ok(())
}
