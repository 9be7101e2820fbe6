//! Entries after the process of the store was killed. The writers run until the kill, so some calls have no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    Capability, DeleteOptions, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry, SetOptions, Survives,
    Transaction, Version,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use super::crash_states::States;
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;

cases! { crash, Durable:
    acknowledged_writes_survive: "R-2" [Need::Crash, Need::Survives(Survives::Process)]
        "every acknowledged set and delete survives a kill of the process, and no write is partially applied";
    large_values_survive_whole: "R-2" [Need::Crash, Need::Survives(Survives::Process)]
        "after a kill of the process, a key has its whole large value, or the whole value before it";
    transactions_survive_whole: "X-1" [Need::Crash, Need::Survives(Survives::Process), Need::Has(Capability::Transactions)]
        "after a kill of the process, all effects of a transaction are visible, or none";
    counters_stay_exact: "C-1" [Need::Crash, Need::Survives(Survives::Process), Need::Has(Capability::Counters)]
        "after a kill of the process, a counter includes each acknowledged increment once, and each unanswered increment at most once";
    deadlines_survive: "T-4" [Need::Crash, Need::Survives(Survives::Process), Need::Has(Capability::Deadlines)]
        "a deadline is the same after a kill of the process";
    versions_never_repeat: "S-3" [Need::Crash, Need::Survives(Survives::Process), Need::Has(Capability::Versions)]
        "no version repeats after a kill of the process";
    opening_may_be_killed: "R-1" [Need::Crash, Need::Survives(Survives::Process)]
        "after the process was killed while the store opened, the store opens again with all its entries";
}

/// The number of kills in a case.
const KILLS: usize = 3;

/// Counts acknowledged calls, and notifies the case when there are enough of them for a kill.
struct Progress {
    acknowledged: AtomicUsize,
    wanted: usize,
    reached: Notify,
}

impl Progress {
    fn until(wanted: usize) -> Arc<Self> {
        Arc::new(Self { acknowledged: AtomicUsize::new(0), wanted, reached: Notify::new() })
    }

    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted {
            self.reached.notify_one();
        }
    }
}

/// Runs one writer per client in a child process, and kills the child after `calls` acknowledged calls. A writer returns
/// when a call fails. Then opens the store here, and returns the results of the writers.
async fn kill_during<T, F>(
    cx: &mut Context,
    clients: usize,
    calls: usize,
    writer: impl Fn(Recorder, usize, Arc<Progress>) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let child = cx.open_in_child().await?;
    let progress = Progress::until(calls);
    let writers: Vec<_> =
        (0..clients).map(|client| tokio::spawn(writer(child.store().clone(), client, Arc::clone(&progress)))).collect();
    progress.reached.notified().await;
    // Without a wait, the kill would always come at the beginning of a call.
    cx.wait(Duration::from_millis(StdRng::seed_from_u64(cx.seed() ^ calls as u64).random_range(0..20))).await;
    child.kill().await?;
    let mut results = Vec::new();
    for writer in writers {
        results.push(writer.await.map_err(|error| Failure::new(format!("a writer of the case panicked: {error}")))?);
    }
    cx.reopen().await?;
    Ok(results)
}

async fn acknowledged_writes_survive(cx: Context) -> Verdict {
    survive(cx, 40, |client, number| Bytes::from(format!("client {client}, write {number}"))).await
}

async fn large_values_survive_whole(cx: Context) -> Verdict {
    // The value is larger than a page of most stores, and its size is not a multiple of the page size.
    survive(cx, 12, |client, number| {
        let block = format!("client {client}, write {number};");
        Bytes::from(block.repeat(200_000 / block.len()))
    })
    .await
}

/// Four clients set and delete keys of their own until the kill. Fails unless each key has a state that its client may
/// have left.
async fn survive(mut cx: Context, calls: usize, value: fn(usize, usize) -> Bytes) -> Verdict {
    const CLIENTS: usize = 4;
    const KEYS: usize = 5;
    let may_lose = !cx.capabilities().durability.interval.is_zero();
    let mut rng = StdRng::seed_from_u64(cx.seed());
    let mut known: Vec<Vec<States>> = vec![vec![States::default(); KEYS]; CLIENTS];
    for kill in 0..KILLS {
        let calls = calls + rng.random_range(0..calls);
        let before = std::mem::take(&mut known);
        known = kill_during(&mut cx, CLIENTS, calls, |store, client, progress| {
            let mut states = before.get(client).cloned().unwrap_or_default();
            async move {
                for number in 0.. {
                    let at = number % KEYS;
                    let (k, written) = (own_key(client, at), value(client, kill * 1_000_000 + number));
                    let is_delete = number % 7 == 6;
                    let acknowledged = if is_delete {
                        attempt(&mut states, at, None);
                        store.delete(&k, &DeleteOptions::default()).await.is_ok()
                    } else {
                        attempt(&mut states, at, Some(&written));
                        store.set(&k, written, &SetOptions::default()).await.is_ok()
                    };
                    if !acknowledged {
                        break;
                    }
                    if !may_lose {
                        states.iter_mut().skip(at).take(1).for_each(States::settle);
                    } else if at == KEYS - 1 {
                        // Such a store may lose writes that were not flushed.
                        if store.flush().await.is_err() {
                            break;
                        }
                        states.iter_mut().for_each(States::settle);
                    }
                    progress.acknowledge();
                }
                states
            }
        })
        .await?;
        for (client, states) in known.iter_mut().enumerate() {
            for (at, states) in states.iter_mut().enumerate() {
                let k = own_key(client, at);
                states.judge(&k, cx.get(&k).await?)?;
            }
        }
    }
    Ok(())
}

fn attempt(states: &mut [States], at: usize, written: Option<&Bytes>) {
    states.iter_mut().skip(at).take(1).for_each(|states| states.attempt(written.cloned()));
}

fn own_key(client: usize, at: usize) -> Key {
    key(["client", &client.to_string(), &at.to_string()])
}

async fn transactions_survive_whole(mut cx: Context) -> Verdict {
    // The keys share their first three segments, so they are in one transaction group.
    let keys: Vec<_> = ["a", "b", "c", "d"].map(|name| key(["g", "g", "g", name])).into();
    let may_lose = !cx.capabilities().durability.interval.is_zero();
    let mut first = 0_usize;
    for _ in 0..KILLS {
        let same = keys.clone();
        let acknowledged = kill_during(&mut cx, 1, 15, |store, _, progress| {
            let keys = same.clone();
            async move {
                let mut last = first;
                loop {
                    let number = (last + 1).to_string();
                    let write = keys.iter().fold(Transaction::new(), |transaction, key| {
                        transaction.set(key.clone(), number.clone(), Expiry::Never)
                    });
                    if store.commit(&write).await.is_err() {
                        return last;
                    }
                    last += 1;
                    progress.acknowledge();
                }
            }
        })
        .await?
        .pop()
        .unwrap_or_default();
        let mut found = Vec::new();
        for key in &keys {
            found.push(cx.get(key).await?.map(|value| String::from_utf8_lossy(&value).into_owned()));
        }
        ensure!(
            found.windows(2).all(|pair| pair.first() == pair.last()),
            "only a part of a transaction is there after the kill: {found:?}"
        );
        let number = found.into_iter().flatten().next().map_or(0, |text| text.parse().unwrap_or_default());
        let least = if may_lose { 0 } else { acknowledged };
        ensure!(
            (least..=acknowledged + 1).contains(&number),
            "expected transaction {acknowledged}, the last acknowledged one, or the next one, but found {number}"
        );
        first = number;
    }
    Ok(())
}

async fn counters_stay_exact(mut cx: Context) -> Verdict {
    const CLIENTS: u8 = 4;
    let may_lose = !cx.capabilities().durability.interval.is_zero();
    let counter = key(["counter"]);
    let mut base = 0;
    for _ in 0..KILLS {
        let acknowledged = kill_during(&mut cx, CLIENTS.into(), 40, |store, _, progress| async move {
            let mut acknowledged = 0_i64;
            while store.increment(&key(["counter"]), 1, &IncrementOptions::default()).await.is_ok() {
                acknowledged += 1;
                progress.acknowledge();
            }
            acknowledged
        })
        .await?;
        let acknowledged: i64 = acknowledged.into_iter().sum();
        let found = cx.store().increment(&counter, 0, &IncrementOptions::default()).await?;
        let least = if may_lose { 0 } else { base + acknowledged };
        // Each client has at most one call without an answer.
        let most = base + acknowledged + i64::from(CLIENTS);
        ensure!(
            (least..=most).contains(&found),
            "expected the counter to be between {least} and {most} after the kill, but found {found}"
        );
        base = found;
    }
    Ok(())
}

async fn deadlines_survive(mut cx: Context) -> Verdict {
    const HOUR: Duration = Duration::from_secs(3_600);
    let touches = cx.has(Capability::Touch);
    let child = cx.open_in_child().await?;
    let expiring = SetOptions::default().with_expiry(Expiry::After(HOUR));
    for name in ["set", "touched", "kept"] {
        let stored = child.store().set(&key([name]), "v".into(), &expiring).await?.is_stored();
        ensure!(stored, "`set` without a condition was refused");
    }
    if touches {
        ensure!(
            child.store().touch(&key(["touched"]), NewExpiry::After(2 * HOUR)).await?,
            "`touch` of a live entry returned false"
        );
    }
    let keep = SetOptions::default().with_expiry(Expiry::Keep);
    ensure!(
        child.store().set(&key(["kept"]), "w".into(), &keep).await?.is_stored(),
        "`set` without a condition was refused"
    );
    let mut deadlines = Vec::new();
    for name in ["set", "touched", "kept"] {
        deadlines.push((name, child.store().get(&key([name])).await?.map(|entry| entry.expires)));
    }
    child.store().flush().await?;
    child.kill().await?;
    cx.reopen().await?;
    for (name, before) in deadlines {
        let after = cx.store().get(&key([name])).await?.map(|entry| entry.expires);
        ensure_eq!(after, before, "the deadline of `{name}` after the kill");
        ensure!(matches!(after, Some(Expires::At(_))), "the deadline of `{name}` is not a moment: {after:?}");
    }
    Ok(())
}

async fn versions_never_repeat(mut cx: Context) -> Verdict {
    let k = key(["k"]);
    let mut seen: Vec<Version> = Vec::new();
    for _ in 0..KILLS {
        let written = kill_during(&mut cx, 1, 10, |store, _, progress| async move {
            let mut written = Vec::new();
            while let Ok(outcome) = store.set(&key(["k"]), "v".into(), &SetOptions::default()).await {
                written.extend(outcome.version());
                progress.acknowledge();
            }
            written
        })
        .await?;
        for version in written.into_iter().flatten().chain([cx.set_versioned(&k, "here").await?]) {
            ensure!(!seen.contains(&version), "the version {version:?} was given to two writes of one key");
            seen.push(version);
        }
        ensure!(cx.delete(&k).await?, "`delete` of a live entry removed nothing");
    }
    Ok(())
}

async fn opening_may_be_killed(mut cx: Context) -> Verdict {
    for at in 0..50 {
        cx.set(["k", &at.to_string()], format!("value {at}")).await?;
    }
    for milliseconds in [0, 2, 5, 10, 20] {
        cx.kill_while_opening(Duration::from_millis(milliseconds)).await?;
    }
    cx.reopen().await?;
    for at in 0..50 {
        cx.expect(["k", &at.to_string()], format!("value {at}")).await?;
    }
    Ok(())
}
