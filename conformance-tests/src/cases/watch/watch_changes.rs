//! Watches: the content of reports, announced losses, and reads after a report.

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{Capability, Key, KvStore, NewExpiry, Report, SetOptions, WatchEvent, WatchQuery, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::Watcher;

const WATCH: Need = Need::Has(Capability::Watch);

cases! { watch_changes, Watch:
    changes_show_only_keys: "W-2" [WATCH] "a watch of changes reports a written key and a removed key as `Changed`";
    touches_are_changes: "W-2" [WATCH, Need::Has(Capability::Touch)] "a watch of changes reports a touched key as `Changed`";
    refused_writes_are_no_changes: "W-2" [WATCH, Need::Has(Capability::Conditions)] "a watch of changes reports nothing for a refused write";
    snapshots_of_changes_have_no_entries: "W-2" [WATCH, Need::Has(Capability::List)] "a snapshot of a watch of changes has the keys without entries";
    reads_after_a_report: "W-7" [WATCH] "`get` after a report of a key returns the reported write or a newer one";
    no_silent_resumption: "W-6" [WATCH, Need::Outage] "after an outage that was announced as `Suspended`, the next event is a gap or the end";
}

fn w(name: &str) -> Key {
    key(["w", name])
}

async fn changes(cx: &Context) -> Result<Watcher, Failure> {
    Watcher::start(cx.store(), WatchQuery::prefix(key(["w"])).with_report(Report::Changes)).await
}

async fn expect_changed(watcher: &mut Watcher, key: &Key) -> Verdict {
    let expected = WatchEvent::Changed { key: key.clone() };
    ensure_eq!(watcher.event().await?, expected, "the event of a watch of changes");
    Ok(())
}

async fn changes_show_only_keys(cx: Context) -> Verdict {
    let mut watcher = changes(&cx).await?;
    cx.set(key(["other"]), "1").await?;
    cx.set(w("a"), "1").await?;
    expect_changed(&mut watcher, &w("a")).await?;
    cx.set(w("b"), "1").await?;
    expect_changed(&mut watcher, &w("b")).await?;
    ensure!(cx.delete(w("a")).await?, "`delete` found no entry");
    expect_changed(&mut watcher, &w("a")).await
}

async fn touches_are_changes(cx: Context) -> Verdict {
    cx.set(w("a"), "1").await?;
    let mut watcher = changes(&cx).await?;
    ensure!(cx.store().touch(&w("a"), NewExpiry::After(Duration::from_secs(600))).await?, "`touch` found no entry");
    expect_changed(&mut watcher, &w("a")).await
}

async fn refused_writes_are_no_changes(cx: Context) -> Verdict {
    cx.set(w("a"), "1").await?;
    let mut watcher = changes(&cx).await?;
    let absent = SetOptions::default().with_when(When::Absent);
    ensure!(!cx.store().set(&w("a"), "2".into(), &absent).await?.is_stored(), "`set` under `Absent` was stored");
    ensure!(!cx.delete(w("missing")).await?, "`delete` removed an absent key");
    cx.set(w("last"), "1").await?;
    expect_changed(&mut watcher, &w("last")).await
}

async fn snapshots_of_changes_have_no_entries(cx: Context) -> Verdict {
    cx.set(w("a"), "1").await?;
    let query = WatchQuery::prefix(key(["w"])).with_snapshot().with_report(Report::Changes);
    let mut watcher = Watcher::start(cx.store(), query).await?;
    let expected = WatchEvent::Set { key: w("a"), entry: None };
    ensure_eq!(watcher.event().await?, expected, "the first event of the snapshot");
    ensure_eq!(watcher.event().await?, WatchEvent::SnapshotEnd, "the event after the only entry");
    cx.set(w("a"), "2").await?;
    expect_changed(&mut watcher, &w("a")).await
}

async fn reads_after_a_report(cx: Context) -> Verdict {
    const WRITES: u32 = 200;
    let own = w("k");
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone())).await?;
    let writing = tokio::spawn({
        let (cx, own) = (cx.clone(), own.clone());
        async move {
            for number in 1..=WRITES {
                cx.set(&own, number.to_string()).await?;
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        }
    });
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    loop {
        let WatchEvent::Set { entry: Some(entry), .. } = watcher.event().await? else { continue };
        let reported = number(&entry.value);
        let read = cx.store().get(&own).await?.map_or(0, |entry| number(&entry.value));
        ensure!(read >= reported, "a report showed the write {reported}, and `get` then returned the write {read}");
        if reported == WRITES {
            break;
        }
    }
    writing.await.map_err(|error| Failure::new(format!("the writing task panicked: {error}")))?
}

async fn no_silent_resumption(cx: Context) -> Verdict {
    let mut events = cx.store().watch(&WatchQuery::prefix(key(["w"]))).await?;
    cx.set(w("before"), "1").await?;
    cx.cut().await?;
    cx.wait(Duration::from_millis(200)).await;
    cx.heal().await?;
    let mut is_suspended = false;
    for round in 0..1_000 {
        // Writes fail until the store has connected again.
        let _ = cx.store().set(&w("after"), round.to_string().into(), &SetOptions::default()).await;
        let Ok(event) = tokio::time::timeout(Duration::from_millis(50), events.next()).await else { continue };
        match event {
            Some(Ok(WatchEvent::Suspended { .. })) => is_suspended = true,
            Some(Ok(WatchEvent::Gap { .. })) | None => return Ok(()),
            Some(Ok(event)) => {
                ensure!(!is_suspended, "after `Suspended` the watch sent {event:?} without a gap");
                if matches!(&event, WatchEvent::Set { key, .. } if *key == w("after")) && round > 100 {
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Err(Failure::new("the watch sent no event after the outage"))
}
