//! A backend that is away for a while, and comes back.

use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{
    BoxFuture, Capability, DeleteOptions, Error, Expiry, IncrementOptions, KvStore, ListQuery, MessageEvent, NewExpiry,
    SetOptions, Transaction, WatchEvent, WatchQuery,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::history::{Workload, linearizable};
use crate::tasks::clients;
use crate::watcher::{Listener, Watcher};

const AWAY: Need = Need::Outage;

cases! { outage, Shared:
    calls_end_in_time: "E-2" [AWAY] "while the backend is away every call ends within its deadline";
    reads_are_not_answered: "E-1" [AWAY] "while the backend is away a read is an error: neither an entry nor its absence";
    errors_say_what_to_do: "E-1" [AWAY] "while the backend is away reads are Unavailable, and writes Unavailable or Indeterminate";
    writes_tell_what_became_of_them: "E-1" [AWAY, Need::Has(Capability::Versions)]
        "an Unavailable write has not happened, and an Indeterminate one is found by the version that its error names";
    the_same_handle_works_again: "E-2" [AWAY] "once the backend is back, the handle that saw it go works as before";
    it_finds_its_entries_again: "G-2" [AWAY] "after an outage the store has what it had before, and nothing of another";
    increments_count_once: "C-1" [AWAY, Need::Has(Capability::Counters)]
        "over outages, a counter has every increment that was acknowledged, and at most those that may have happened";
    watchers_are_told: "W-3" [AWAY, Need::Has(Capability::Watch)]
        "a watcher that lived through an outage is told of a gap, or goes on hearing of every write";
    subscribers_are_told: "P-1" [AWAY, Need::Has(Capability::Messages)]
        "a subscriber that lived through an outage is told of a gap, or goes on getting every message";
    histories_are_linearizable: "G-2" [AWAY, Need::KeepsAll]
        "recorded histories over outages have an order that explains every answer";
    histories_with_conditions_are_linearizable: "G-2" [AWAY, Need::Has(Capability::Conditions), Need::KeepsAll]
        "recorded histories under conditions over outages have an order that explains every answer";
}

/// The deadlines of clause E-2 for connecting and for an operation, and room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a store may take to notice that its backend is back.
const RECOVERY: Duration = Duration::from_secs(30);

/// A call by name, whether it writes, and what it comes to.
type Call<'c> = (&'static str, bool, BoxFuture<'c, Result<(), Error>>);

/// Every call of the store.
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

/// Makes every call side by side and gives what each came to.
async fn all_calls(cx: &Context) -> Result<Vec<(&'static str, bool, Result<(), Error>)>, Failure> {
    let timed = calls(cx).into_iter().map(|(name, writes, call)| async move {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(result) => Ok((name, writes, result)),
            Err(_) => Err(Failure::new(format!("{name} has not ended {PATIENCE:?} after the backend was cut off"))),
        }
    });
    join_all(timed).await.into_iter().collect()
}

/// Heals the link and waits until the store has noticed.
async fn recover(cx: &Context) -> Verdict {
    cx.heal().await?;
    let again = async {
        while cx.store().get(&key(["recovered"])).await.is_err() {
            cx.wait(Duration::from_millis(20)).await;
        }
    };
    let is_back = tokio::time::timeout(RECOVERY, again).await;
    ensure!(is_back.is_ok(), "the backend is back, and after {RECOVERY:?} the same handle still fails");
    Ok(())
}

/// Three short outages.
async fn come_and_go(cx: &Context) -> Verdict {
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
        ensure!(writes || result.is_err(), "{name} gave an answer while the backend was away");
    }
    recover(&cx).await
}

async fn errors_say_what_to_do(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    cx.cut().await?;
    for (name, writes, result) in all_calls(&cx).await? {
        let Err(error) = result else {
            ensure!(!writes, "{name} was acknowledged while the backend was away");
            continue;
        };
        ensure!(
            error.is_retryable() || (writes && error.maybe_applied()),
            "{name} while the backend is away is `{error}`, and should be Unavailable{}",
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
    // What was on its way when the backend came back has time to arrive.
    cx.wait(Duration::from_millis(100)).await;
    for (client, result) in results.into_iter().enumerate() {
        let found = cx.store().get(&key(["client", &client.to_string()])).await?;
        match result {
            Ok(_) => return Err(Failure::new("a set was acknowledged while the backend was away")),
            Err(error) if error.maybe_applied() => {
                let named = error.attempted_version();
                ensure!(named.is_some(), "an Indeterminate set names no version: `{error}`");
                let found = found.and_then(|entry| entry.version);
                ensure!(found.is_none() || found == named, "the entry of an Indeterminate set has another version");
            }
            Err(error) => ensure!(found.is_none(), "`{error}` says that nothing happened, and the entry is there"),
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
            // A slow answer to a call of before may end one call more.
            if let Err(error) = result {
                ensure!(error.is_retryable(), "{name} after the outage: {error}");
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
        let _ = tokio::time::timeout(PATIENCE, cx.store().get(&key(["before", "0"]))).await;
        recover(&cx).await?;
    }
    for at in 0..20 {
        cx.expect(["before", &at.to_string()], format!("value {at}")).await?;
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(["before"]).await?.len(), 20, "the number of keys that are listed after the outage");
    }
    Ok(())
}

async fn increments_count_once(cx: Context) -> Verdict {
    let at_work = clients(&cx, 6, |cx, _| async move {
        let (mut acknowledged, mut possible) = (0, 0);
        for _ in 0..40 {
            match cx.store().increment(&key(["n"]), 1, &IncrementOptions::default()).await {
                Ok(_) => acknowledged += 1,
                Err(error) if error.maybe_applied() => possible += 1,
                Err(error) => ensure!(error.is_retryable(), "an increment over an outage: {error}"),
            }
            cx.wait(Duration::from_millis(3)).await;
        }
        Ok((acknowledged, possible))
    });
    let (counts, outages) = tokio::join!(at_work, come_and_go(&cx));
    outages?;
    let (acknowledged, possible) =
        counts?.into_iter().fold((0, 0), |(all, may), (acknowledged, possible)| (all + acknowledged, may + possible));
    let counted: i64 = cx.store().increment(&key(["n"]), 0, &IncrementOptions::default()).await?;
    ensure!(
        (acknowledged..=acknowledged + possible).contains(&counted),
        "{acknowledged} increments were acknowledged and {possible} more are possible, and the counter says {counted}"
    );
    Ok(())
}

async fn watchers_are_told(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key(["k"]))).await?;
    cx.set(["k"], "before").await?;
    watcher.hears_set(&key(["k"]), "before").await?;
    cx.cut().await?;
    let _ = tokio::time::timeout(PATIENCE, cx.store().get(&key(["k"]))).await;
    recover(&cx).await?;
    let rounds = RECOVERY.as_secs();
    for round in 0..rounds {
        let value = format!("after {round}");
        cx.set(["k"], value.clone()).await?;
        let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), watcher.next()).await else { continue };
        match heard? {
            Some(WatchEvent::Gap { .. }) => return Ok(()),
            // What it heard is true, and of this round or one before.
            Some(WatchEvent::Set { entry: Some(entry), .. }) if entry.value.starts_with(b"after") => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new("the watch ended with the outage, and the store is open")),
        }
    }
    Err(Failure::new(format!("after the outage the watcher heard neither of a gap nor of {rounds} writes")))
}

async fn subscribers_are_told(cx: Context) -> Verdict {
    let channel = key(["c"]);
    let mut listener = Listener::start(cx.store(), &channel).await?;
    cx.store().publish(&channel, "before".into()).await?;
    listener.hears(&channel, "before").await?;
    cx.cut().await?;
    let _ = tokio::time::timeout(PATIENCE, cx.store().publish(&channel, "lost".into())).await;
    recover(&cx).await?;
    let rounds = RECOVERY.as_secs();
    for round in 0..rounds {
        // What publishes may have to connect again.
        let _ = cx.store().publish(&channel, format!("after {round}").into()).await;
        let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), listener.next()).await else { continue };
        match heard? {
            Some(MessageEvent::Gap { .. }) => return Ok(()),
            Some(MessageEvent::Message(message)) if message.payload.starts_with(b"after") => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new("the subscription ended with the outage, and the store is open")),
        }
    }
    Err(Failure::new(format!("after the outage the subscriber got neither a gap nor any of {rounds} messages")))
}

async fn histories_are_linearizable(cx: Context) -> Verdict {
    is_linearizable(&cx, Workload::PLAIN).await
}

async fn histories_with_conditions_are_linearizable(cx: Context) -> Verdict {
    is_linearizable(&cx, Workload::PLAIN.with_conditions()).await
}

async fn is_linearizable(cx: &Context, workload: Workload) -> Verdict {
    let handles = [cx.store().clone()];
    // A fast store is through before the first outage, unless that was there first.
    cx.cut().await?;
    let (history, outages) = tokio::join!(linearizable(cx, &handles, workload), come_and_go(cx));
    outages?;
    history
}
