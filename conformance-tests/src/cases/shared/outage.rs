//! A backend that is unreachable for a while.

use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{
    BoxFuture, Capability, DeleteOptions, Error, Expiry, IncrementOptions, KvStore, ListQuery, MessageEvent, NewExpiry,
    SetOptions, Transaction, WatchEvent, WatchQuery,
};

use super::outage_sinks::{
    caches_over_sinks_stay_fresh, sinks_are_current_again, sinks_learn_of_the_loss,
    subscriptions_never_resume_silently, watchers_learn_what_sinks_learn,
};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::history::{Workload, linearizable};
use crate::tasks::clients;
use crate::watcher::{Subscriber, Watcher};

const OUTAGE: Need = Need::Outage;
const SINKS: Need = Need::Has(Capability::Sinks);

cases! { outage, Shared:
    calls_end_in_time: "E-2" [OUTAGE] "while the backend is unreachable, every call ends within its timeout";
    reads_are_not_answered: "E-1" [OUTAGE] "while the backend is unreachable, a read fails, and does not report the key as absent";
    errors_say_what_to_do: "E-1" [OUTAGE] "while the backend is unreachable, reads fail as Unavailable, and writes as Unavailable or Indeterminate";
    writes_tell_what_became_of_them: "E-1" [OUTAGE, Need::Has(Capability::Versions)]
        "an Unavailable write had no effect, and the entry of an applied Indeterminate write has the version that the error contains";
    the_same_handle_works_again: "E-2" [OUTAGE] "a handle works again after an outage";
    it_finds_its_entries_again: "G-2" [OUTAGE] "after an outage, the store has the entries from before the outage";
    increments_count_once: "C-1" [OUTAGE, Need::Has(Capability::Counters)]
        "after outages, a counter includes every acknowledged increment, and otherwise at most the Indeterminate increments";
    watchers_are_told: "W-3" [OUTAGE, Need::Has(Capability::Watch)]
        "after an outage, a watcher gets a gap or every change";
    subscribers_are_told: "P-1" [OUTAGE, Need::Has(Capability::Messages)]
        "after an outage, a subscriber gets a gap or every message";
    sinks_learn_of_the_loss: "W-5" [OUTAGE, SINKS]
        "within the declared bound after the backend became unreachable, a sink gets `lost`, and no `current` until the backend is reachable";
    sinks_are_current_again: "W-5" [OUTAGE, SINKS]
        "after an outage, a sink gets `current` with a moment after the outage, and then every change";
    caches_over_sinks_stay_fresh: "W-5" [OUTAGE, SINKS, Need::SecondHandle, Need::KeepsAll]
        "during and after outages, a cache that serves only while `as_of` is younger than the bound serves nothing older than `as_of`";
    watchers_learn_what_sinks_learn: "W-6" [OUTAGE, SINKS]
        "a watcher gets `Suspended` or a gap when a sink gets `lost`, and a gap or the end before any other event";
    subscriptions_never_resume_silently: "W-6" [OUTAGE, Need::Has(Capability::Messages)]
        "after `Suspended`, a subscriber gets a gap, or the subscription ends, before any message";
    histories_are_linearizable: "G-2" [OUTAGE, Need::KeepsAll]
        "recorded histories during outages are linearizable: some order explains every answer";
    histories_with_conditions_are_linearizable: "G-2" [OUTAGE, Need::Has(Capability::Conditions), Need::KeepsAll]
        "recorded histories of conditional calls during outages are linearizable: some order explains every answer";
}

/// The timeouts of clause E-2 for connecting and for an operation, plus a margin for a busy machine.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The timeout for a store to notice that its backend is reachable again.
pub(super) const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// A call: its name, true if it writes, and its future.
type Call<'c> = (&'static str, bool, BoxFuture<'c, Result<(), Error>>);

/// Every call that the store supports.
fn calls(cx: &Context) -> Vec<Call<'_>> {
    let store = cx.store();
    let mut calls: Vec<Call<'_>> = vec![
        ("get", false, Box::pin(async { store.get(&key(["k"])).await.map(drop) })),
        ("contains", false, Box::pin(async { store.contains(&key(["k"])).await.map(drop) })),
        (
            "get_many",
            false,
            Box::pin(async { store.get_many(&[key(["k"])]).await.into_iter().try_for_each(|answer| answer.map(drop)) }),
        ),
        ("set", true, Box::pin(async { store.set(&key(["s"]), "v".into(), &SetOptions::default()).await.map(drop) })),
        ("delete", true, Box::pin(async { store.delete(&key(["k"]), &DeleteOptions::default()).await.map(drop) })),
    ];
    if cx.has(Capability::List) {
        calls.push(("list", false, Box::pin(async { store.list(&ListQuery::default()).await.map(drop) })));
    }
    if cx.has(Capability::Touch) {
        calls.push(("touch", true, Box::pin(async { store.touch(&key(["t"]), NewExpiry::Never).await.map(drop) })));
    }
    if cx.has(Capability::Counters) {
        let options = IncrementOptions::default();
        calls.push((
            "increment",
            true,
            Box::pin(async move { store.increment(&key(["n"]), 1, &options).await.map(drop) }),
        ));
    }
    if cx.has(Capability::Transactions) {
        let transaction = Transaction::new().set(key(["c"]), "v", Expiry::Never);
        calls.push(("commit", true, Box::pin(async move { store.commit(&transaction).await.map(drop) })));
    }
    calls
}

/// Makes every call concurrently and returns the results.
async fn all_calls(cx: &Context) -> Result<Vec<(&'static str, bool, Result<(), Error>)>, Failure> {
    let timed = calls(cx).into_iter().map(|(name, writes, call)| async move {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => Ok((name, writes, result)),
            Err(_) => Err(Failure::new(format!(
                "`{name}` did not end within {CALL_TIMEOUT:?} while the backend was unreachable"
            ))),
        }
    });
    join_all(timed).await.into_iter().collect()
}

/// Heals the link and waits until the store works again.
pub(super) async fn recover(cx: &Context) -> Verdict {
    cx.heal().await?;
    let again = async {
        while cx.store().get(&key(["recovered"])).await.is_err() {
            cx.wait(Duration::from_millis(20)).await;
        }
    };
    let is_back = tokio::time::timeout(RECOVERY_TIMEOUT, again).await;
    ensure!(
        is_back.is_ok(),
        "the backend is reachable again, but `get` of the same handle still fails after {RECOVERY_TIMEOUT:?}"
    );
    Ok(())
}

/// Makes three short outages.
async fn three_outages(cx: &Context) -> Verdict {
    for _ in 0..3 {
        cx.cut().await?;
        cx.wait(Duration::from_millis(30)).await;
        cx.heal().await?;
        cx.wait(Duration::from_millis(15)).await;
    }
    recover(cx).await
}

async fn calls_end_in_time(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    cx.cut().await?;
    all_calls(&cx).await?;
    recover(&cx).await
}

async fn reads_are_not_answered(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    cx.cut().await?;
    for (name, writes, result) in all_calls(&cx).await? {
        ensure!(
            writes || result.is_err(),
            "`{name}` succeeded while the backend was unreachable, but a read should fail"
        );
    }
    recover(&cx).await
}

async fn errors_say_what_to_do(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    cx.cut().await?;
    for (name, writes, result) in all_calls(&cx).await? {
        let Err(error) = result else {
            ensure!(!writes, "`{name}` was acknowledged while the backend was unreachable");
            continue;
        };
        ensure!(
            error.is_retryable() || (writes && error.maybe_applied()),
            "expected `{name}` to fail as Unavailable{} while the backend is unreachable, but its error is `{error}`",
            if writes { " or Indeterminate" } else { "" }
        );
    }
    recover(&cx).await
}

async fn writes_tell_what_became_of_them(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    cx.cut().await?;
    let results = clients(&cx, 12, |cx, client| async move {
        let own = key(["client", &client.to_string()]);
        Ok(cx.store().set(&own, "new".into(), &SetOptions::default()).await)
    })
    .await?;
    recover(&cx).await?;
    // Waits for writes that were in flight when the backend became reachable again.
    cx.wait(Duration::from_millis(100)).await;
    for (client, result) in results.into_iter().enumerate() {
        let found = cx.store().get(&key(["client", &client.to_string()])).await?;
        match result {
            Ok(_) => return Err(Failure::new("`set` was acknowledged while the backend was unreachable")),
            Err(error) if error.maybe_applied() => {
                let attempted = error.attempted_version();
                ensure!(attempted.is_some(), "the error of an Indeterminate `set` has no version: `{error}`");
                let found = found.and_then(|entry| entry.version);
                ensure!(
                    found.is_none() || found == attempted,
                    "`get` after an Indeterminate `set` returned the version {found:?}, but the error had {attempted:?}"
                );
            }
            Err(error) => ensure!(
                found.is_none(),
                "`set` failed with `{error}`, which means that nothing was written, but `get` found the entry"
            ),
        }
    }
    Ok(())
}

async fn the_same_handle_works_again(cx: Context) -> Verdict {
    for round in 0..3 {
        cx.set(["k"], round.to_string()).await?;
        cx.cut().await?;
        all_calls(&cx).await?;
        recover(&cx).await?;
        for (name, _, result) in all_calls(&cx).await? {
            // A call may still use a connection that broke in the outage, and fail.
            if let Err(error) = result {
                ensure!(
                    error.is_retryable(),
                    "expected `{name}` to succeed or fail as Unavailable after the outage, but its error is `{error}`"
                );
            }
        }
        for at in 0..20 {
            let name = at.to_string();
            cx.set(["after", &name], name.clone()).await?;
            cx.expect(["after", &name], &name).await?;
            cx.delete(["after", &name]).await?;
        }
    }
    Ok(())
}

async fn it_finds_its_entries_again(cx: Context) -> Verdict {
    for at in 0..20 {
        cx.set(["before", &at.to_string()], format!("value {at}")).await?;
    }
    for _ in 0..2 {
        cx.cut().await?;
        let _ = tokio::time::timeout(CALL_TIMEOUT, cx.store().get(&key(["before", "0"]))).await;
        recover(&cx).await?;
    }
    for at in 0..20 {
        cx.expect(["before", &at.to_string()], format!("value {at}")).await?;
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(["before"]).await?.len(), 20, "the number of keys that `list` returned after the outage");
    }
    Ok(())
}

async fn increments_count_once(cx: Context) -> Verdict {
    let counting = clients(&cx, 6, |cx, _| async move {
        let (mut acknowledged, mut possible) = (0, 0);
        for _ in 0..40 {
            match cx.store().increment(&key(["n"]), 1, &IncrementOptions::default()).await {
                Ok(_) => acknowledged += 1,
                Err(error) if error.maybe_applied() => possible += 1,
                Err(error) => ensure!(
                    error.is_retryable(),
                    "expected `increment` to fail as Unavailable or Indeterminate during an outage, not with `{error}`"
                ),
            }
            cx.wait(Duration::from_millis(3)).await;
        }
        Ok((acknowledged, possible))
    });
    let (counts, outages) = tokio::join!(counting, three_outages(&cx));
    outages?;
    let (acknowledged, possible) =
        counts?.into_iter().fold((0, 0), |(all, may), (acknowledged, possible)| (all + acknowledged, may + possible));
    let counted: i64 = cx.store().increment(&key(["n"]), 0, &IncrementOptions::default()).await?;
    ensure!(
        (acknowledged..=acknowledged + possible).contains(&counted),
        "expected {acknowledged} acknowledged and up to {possible} Indeterminate increments, but found {counted}"
    );
    Ok(())
}

async fn watchers_are_told(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key(["k"]))).await?;
    cx.set(["k"], "before").await?;
    watcher.expect_set(&key(["k"]), "before").await?;
    cx.cut().await?;
    let _ = tokio::time::timeout(CALL_TIMEOUT, cx.store().get(&key(["k"]))).await;
    recover(&cx).await?;
    let rounds = RECOVERY_TIMEOUT.as_secs();
    for round in 0..rounds {
        let value = format!("after {round}");
        cx.set(["k"], value.clone()).await?;
        let Ok(event) = tokio::time::timeout(Duration::from_secs(1), watcher.next()).await else { continue };
        match event? {
            Some(WatchEvent::Gap { .. }) => return Ok(()),
            // The watcher gets changes again. The event is from this round or from an earlier round.
            Some(WatchEvent::Set { entry: Some(entry), .. }) if entry.value.starts_with(b"after") => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new("the watch stream ended during the outage although the store is open")),
        }
    }
    Err(Failure::new(format!("the watch reported neither a gap nor any of {rounds} writes after the outage")))
}

async fn subscribers_are_told(cx: Context) -> Verdict {
    let channel = key(["c"]);
    let mut subscriber = Subscriber::start(cx.store(), &channel).await?;
    cx.store().publish(&channel, "before".into()).await?;
    subscriber.expect_message(&channel, "before").await?;
    cx.cut().await?;
    let _ = tokio::time::timeout(CALL_TIMEOUT, cx.store().publish(&channel, "lost".into())).await;
    recover(&cx).await?;
    let rounds = RECOVERY_TIMEOUT.as_secs();
    for round in 0..rounds {
        // The error is ignored, because the publishing handle may have to reconnect.
        let _ = cx.store().publish(&channel, format!("after {round}").into()).await;
        let Ok(event) = tokio::time::timeout(Duration::from_secs(1), subscriber.next()).await else { continue };
        match event? {
            Some(MessageEvent::Gap { .. }) => return Ok(()),
            Some(MessageEvent::Message(message)) if message.payload.starts_with(b"after") => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new("the subscription ended during the outage although the store is open")),
        }
    }
    Err(Failure::new(format!("the subscriber got neither a gap nor any of {rounds} messages after the outage")))
}

async fn histories_are_linearizable(cx: Context) -> Verdict {
    linearizable_over_outages(&cx, Workload::PLAIN).await
}

async fn histories_with_conditions_are_linearizable(cx: Context) -> Verdict {
    linearizable_over_outages(&cx, Workload::PLAIN.with_conditions()).await
}

async fn linearizable_over_outages(cx: &Context, workload: Workload) -> Verdict {
    let handles = [cx.store().clone()];
    // Cuts the link before the clients start, because a fast store would finish before the first outage.
    cx.cut().await?;
    let (history, outages) = tokio::join!(linearizable(cx, &handles, workload), three_outages(cx));
    outages?;
    history
}
