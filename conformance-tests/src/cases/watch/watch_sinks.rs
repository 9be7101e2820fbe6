//! Sinks of changes: every path, the target, the moments of `current`, and the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv_core::{
    Capability, ChangeSink, Clock, Expiry, GapReason, IncrementOptions, Key, KeyPrefix, KvStore, Moment, NewExpiry,
    SetItem, SystemClock, Transaction, WatchTarget,
};
use tokio::task::JoinSet;

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::sink::{Recorded, TOLERANCE};

const SINKS: Need = Need::Has(Capability::Sinks);

cases! { watch_sinks, Watch:
    get_every_write: "W-1" [SINKS] "a sink is called for a write by every path of single keys and batches";
    get_transactions: "W-1" [SINKS, Need::Has(Capability::Transactions)] "a sink is called for every key that a transaction changes";
    get_only_their_target: "W-5" [SINKS] "a sink is called only for the keys of its target";
    are_current: "W-5" [SINKS] "a sink becomes current, and then `as_of` is never older than the declared bound";
    end_with_their_registration: "W-5" [SINKS] "a sink gets no call after its registration was dropped";
    learn_of_close: "W-5" [SINKS] "`close` calls `lost` of every sink";
    of_a_zero_bound_keep_a_cache_exact: "W-5" [SINKS] "with a bound of zero, a cache that drops what changes serves nothing that is older than what anyone has read";
}

async fn get_every_write(cx: Context) -> Verdict {
    let k = key(["s", "k"]);
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    let store = cx.store();
    cx.set(&k, "1").await?;
    sink.expect_changed(&cx, "a set", &k).await?;
    cx.set(&k, "2".repeat(2_000)).await?;
    sink.expect_changed(&cx, "a set of another length", &k).await?;
    cx.set_many(&[SetItem::new(key(["s", "other"]), "1"), SetItem::new(k.clone(), "1")]).await?;
    sink.expect_changed(&cx, "a set_many", &k).await?;
    if cx.has(Capability::Counters) {
        store.increment(&k, 1, &IncrementOptions::default()).await?;
        sink.expect_changed(&cx, "an increment", &k).await?;
    }
    if cx.has(Capability::Touch) {
        ensure!(store.touch(&k, NewExpiry::After(Duration::from_secs(600))).await?, "`touch` found no entry");
        sink.expect_changed(&cx, "a touch", &k).await?;
    }
    ensure!(cx.delete(&k).await?, "`delete` found no entry");
    sink.expect_changed(&cx, "a delete", &k).await?;
    cx.set(&k, "1").await?;
    sink.expect_changed(&cx, "a set of an absent key", &k).await?;
    for deleted in store.delete_many(&[key(["s", "missing"]), k.clone()]).await {
        let _ = deleted?;
    }
    sink.expect_changed(&cx, "a delete_many", &k).await?;
    if cx.has(Capability::List) {
        cx.set(&k, "1").await?;
        sink.expect_changed(&cx, "a set of an absent key", &k).await?;
        store.clear(&KeyPrefix::from(key(["s"]))).await?;
        sink.expect_changed(&cx, "a clear", &k).await?;
    }
    Ok(())
}

async fn get_transactions(cx: Context) -> Verdict {
    // Both keys begin with the same segments, because a transaction may be limited to such keys.
    let [a, b] = ["a", "b"].map(|name| key(["s", "k", name]));
    cx.set(&b, "1").await?;
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    let transaction = Transaction::new().set(a.clone(), "1", Expiry::Never).delete(b.clone());
    ensure!(cx.store().commit(&transaction).await?.is_committed(), "the transaction was refused");
    sink.wait(&cx, "calls for both keys of the transaction", |calls| {
        calls.changed.contains(&a) && calls.changed.contains(&b)
    })
    .await
}

async fn get_only_their_target(cx: Context) -> Verdict {
    let (own, child, beside) = (key(["s", "k"]), key(["s", "k", "child"]), key(["s", "kk"]));
    let (of_key, _one) = Recorded::register(&cx, WatchTarget::Key(own.clone())).await?;
    let (of_prefix, _two) = Recorded::register(&cx, KeyPrefix::from(&own)).await?;
    let (below, _three) = Recorded::register(&cx, KeyPrefix::descendants(&own)).await?;
    for key in [&beside, &child, &own] {
        cx.set(key, "1").await?;
    }
    of_key.wait(&cx, "a call for the key", |calls| calls.changed.contains(&own)).await?;
    of_prefix.wait(&cx, "a call for the key", |calls| calls.changed.contains(&own)).await?;
    below.wait(&cx, "a call for the child", |calls| calls.changed.contains(&child)).await?;
    for (name, sink, expected) in
        [("key", of_key, vec![&own]), ("prefix", of_prefix, vec![&child, &own]), ("descendants", below, vec![&child])]
    {
        let mut changed = sink.calls(|calls| calls.changed.clone());
        changed.sort_unstable();
        changed.dedup();
        let mut expected: Vec<Key> = expected.into_iter().cloned().collect();
        expected.sort_unstable();
        ensure_eq!(changed, expected, "the keys that the sink of the {name} got");
    }
    Ok(())
}

async fn are_current(cx: Context) -> Verdict {
    let bound = cx.store().info().watch_loss_bound;
    ensure!(bound < Duration::from_secs(3_600), "the store declares sinks with a bound of {bound:?}");
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    sink.wait(&cx, "a call of `current`", |calls| calls.as_of.is_some()).await?;
    if bound.is_zero() {
        return Ok(());
    }
    let started = Moment::now();
    while started.elapsed() < bound.saturating_mul(2) {
        let (as_of, lost) = sink.calls(|calls| (calls.as_of, calls.lost.clone()));
        ensure!(lost.is_empty(), "nothing was lost, but the store called `lost` with {lost:?}");
        let age = as_of.map_or(Duration::MAX, Moment::elapsed);
        ensure!(age <= bound.saturating_add(TOLERANCE), "`as_of` is {age:?} old, and the bound is {bound:?}");
        SystemClock.sleep(bound / 10).await;
    }
    Ok(())
}

async fn end_with_their_registration(cx: Context) -> Verdict {
    let (ended, registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    cx.set(["s", "a"], "1").await?;
    ended.expect_changed(&cx, "a set", &key(["s", "a"])).await?;
    drop(registration);
    cx.set(["s", "b"], "1").await?;
    sink.expect_changed(&cx, "a set", &key(["s", "b"])).await?;
    ensure_eq!(ended.calls(|calls| calls.changed.clone()), Vec::<Key>::new(), "the calls after the registration ended");
    Ok(())
}

async fn learn_of_close(cx: Context) -> Verdict {
    let (sink, _registration) = Recorded::register(&cx, KeyPrefix::ALL).await?;
    cx.store().close().await?;
    sink.wait(&cx, "a call of `lost` after `close`", |calls| !calls.lost.is_empty()).await
}

/// A cache of numbers: it keeps a value that was read, unless the key changed since the read began.
#[derive(Debug, Default)]
struct Cache(Mutex<HashMap<Key, Cached>>);

#[derive(Debug, Default)]
struct Cached {
    changes: u64,
    value: Option<u64>,
}

impl Cache {
    fn entry<T>(&self, key: &Key, read: impl FnOnce(&mut Cached) -> T) -> T {
        read(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default())
    }
}

impl ChangeSink for Cache {
    fn changed(&self, key: &Key) {
        self.entry(key, |cached| {
            cached.changes += 1;
            cached.value = None;
        });
    }

    fn current(&self, _as_of: Moment) {}

    fn lost(&self, _reason: GapReason) {}
}

async fn of_a_zero_bound_keep_a_cache_exact(cx: Context) -> Verdict {
    const WRITES: u64 = 2_000;
    if !cx.store().info().watch_loss_bound.is_zero() {
        return Ok(());
    }
    let k = key(["s", "k"]);
    let cache = Arc::new(Cache::default());
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _registration = cx.store().watch_into(&target, Arc::clone(&cache) as Arc<dyn ChangeSink>).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (cx, k, cache) = (cx.clone(), k.clone(), Arc::clone(&cache));
        tasks.spawn(async move {
            loop {
                let before = cache.entry(&k, |cached| cached.changes);
                let found = cx.get(&k).await?;
                let read = found.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok()).unwrap_or(0);
                cache.entry(&k, |cached| {
                    if cached.changes == before {
                        cached.value = Some(read);
                    }
                });
                let served = cache.entry(&k, |cached| cached.value);
                ensure!(
                    served.is_none_or(|served| served >= read),
                    "the cache serves the write {served:?} after the write {read} was read"
                );
                if read == WRITES {
                    return Ok::<_, Failure>(());
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for number in 1..=WRITES {
        cx.set(&k, number.to_string()).await?;
        let served = cache.entry(&k, |cached| cached.value);
        ensure!(
            served.is_none_or(|served| served >= number),
            "the cache serves the write {served:?} after the write {number} was acknowledged"
        );
        tokio::task::yield_now().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Failure::new(format!("a reading task panicked: {error}")))??;
    }
    ensure!(cx.delete(&k).await?, "`delete` found no entry");
    ensure_eq!(cache.entry(&k, |cached| cached.value), None, "the value that the cache serves after a delete");
    Ok(())
}
