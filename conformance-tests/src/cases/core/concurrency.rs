//! Concurrent clients of one handle.

use std::time::{Duration, SystemTime};

use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, Expires, Expiry, KvStore, ListQuery, NewExpiry, SetItem, SetOptions,
    SetOutcome,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::history::{Workload, linearizable};
use crate::tasks::clients;

cases! { concurrency, Core:
    clients_on_their_own_keys_do_not_meet: "G-2" [Need::KeepsAll] "the only writer of a key reads its own writes, while other clients write other keys";
    a_hundred_first_uses: "R-1" [Need::KeepsAll] "a hundred clients can be the first to use a store at the same time";
    racing_writers_leave_one_of_them: "G-2" [Need::KeepsAll] "after concurrent writes of one key, all reads return the same written value";
    values_are_never_mixed: "G-1" [Need::KeepsAll] "a read during large writes returns the whole value of one write";
    acknowledged_writes_are_seen_by_all: "G-2" [Need::KeepsAll] "after a write was acknowledged, every task reads its value or a newer value";
    reads_never_go_back: "G-2" [Need::KeepsAll] "while one writer counts up, no reader gets a smaller number after a larger number";
    one_of_twenty_deletes_removes: "D-1" [Need::KeepsAll] "of 20 concurrent deletes of one entry, exactly one reports that it removed the entry";
    previous_entries_show_the_touch_before_them: "S-1" [Need::Has(Capability::Previous), Need::Has(Capability::Touch), Need::Has(Capability::Deadlines), Need::KeepsAll] "if a `touch` comes between the call and the return of a `set` or `delete` with `return_previous`, the previous entry has the deadline of the touch";
    get_inside_a_list_loop: "G-2" [Need::Has(Capability::List)] "reading and writing between the pages of a list does not block";
    histories_are_linearizable: "G-2" [Need::KeepsAll] "recorded histories of get, set and delete are linearizable: some order explains every answer";
    histories_of_every_call_are_linearizable: "G-2" [Need::KeepsAll] "recorded histories of all unconditional calls are linearizable, including batches, takes, touches, increments and transactions, and each transaction is visible as a whole";
    histories_of_every_call_with_expiry_are_linearizable: "S-1" [Need::KeepsAll] "recorded histories of all calls are linearizable while entries expire and their deadlines are kept or touched: some order explains every answer";
    histories_with_expiry_are_linearizable: "T-1" [Need::KeepsAll] "recorded histories of expiring keys are linearizable: some order explains every answer";
}

async fn clients_on_their_own_keys_do_not_meet(cx: Context) -> Verdict {
    clients(&cx, 32, |cx, client| async move {
        let own = key(["client", &client.to_string()]);
        for round in 0..20 {
            let value = format!("{client}.{round}");
            cx.set(&own, value.clone()).await?;
            tokio::task::yield_now().await;
            ensure_eq!(
                cx.get(&own).await?,
                Some(value.into()),
                "the value that `get` returned after client {client} wrote its own key in round {round}"
            );
            ensure!(
                cx.delete(&own).await?,
                "`delete` removed nothing after client {client} wrote its own key in round {round}"
            );
            tokio::task::yield_now().await;
            ensure_eq!(
                cx.get(&own).await?,
                None,
                "the value that `get` returned after client {client} deleted its own key in round {round}"
            );
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn a_hundred_first_uses(cx: Context) -> Verdict {
    clients(&cx, 100, |cx, client| async move {
        let own = key(["client", &client.to_string()]);
        cx.set(&own, client.to_string()).await?;
        cx.expect(&own, client.to_string()).await
    })
    .await?;
    let keys: Vec<_> = (0..100).map(|client: u32| key(["client", &client.to_string()])).collect();
    for (client, answer) in cx.store().get_many(&keys).await.into_iter().enumerate() {
        ensure_eq!(
            answer?.map(|entry| entry.value),
            Some(client.to_string().into()),
            "the value that `get_many` returned for the key of client {client}"
        );
    }
    Ok(())
}

async fn racing_writers_leave_one_of_them(cx: Context) -> Verdict {
    for _ in 0..20 {
        let versions = clients(&cx, 20, |cx, client| async move { cx.set(["k"], client.to_string()).await }).await?;
        let entry = cx.entry(["k"]).await?;
        let winner = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(version) = winner.and_then(|winner| versions.get(winner)) else {
            return Err(Failure::new(format!(
                "expected `get` to return one of the written values, but it returned {:?}",
                entry.value
            )));
        };
        ensure_eq!(
            entry.version,
            *version,
            "the version that `get` returned, compared with the version of the write of this value"
        );
        ensure_eq!(cx.entry(["k"]).await?, entry, "the entry that a second `get` returned");
    }
    Ok(())
}

async fn values_are_never_mixed(cx: Context) -> Verdict {
    const LENGTH: usize = 100_000;
    cx.set(["k"], vec![b'a'; LENGTH]).await?;
    clients(&cx, 8, |cx, client| async move {
        for round in 0..20_u8 {
            if client < 4 {
                let length = LENGTH + usize::from(round);
                cx.set(["k"], vec![b'a' + round; length]).await?;
            } else {
                let value = cx.entry(["k"]).await?.value;
                let first = value.first().copied().unwrap_or_default();
                let length = LENGTH + usize::from(first.saturating_sub(b'a'));
                let is_whole = value.iter().all(|&byte| byte == first) && value.len() == length;
                ensure!(is_whole, "`get` returned a value of {} bytes that no single `set` wrote", value.len());
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn acknowledged_writes_are_seen_by_all(cx: Context) -> Verdict {
    for round in 0..50 {
        let value = round.to_string();
        cx.set(["k"], value.clone()).await?;
        let seen = clients(&cx, 4, |cx, _| async move { cx.get(["k"]).await }).await?;
        ensure!(
            seen.iter().all(|seen| seen.as_deref() == Some(value.as_bytes())),
            "expected four concurrent `get` calls to return {value} after `set`, but they returned {seen:?}"
        );
    }
    Ok(())
}

async fn reads_never_go_back(cx: Context) -> Verdict {
    cx.set(["k"], "0").await?;
    clients(&cx, 5, |cx, client| async move {
        let mut last = 0;
        for round in 0..300_u32 {
            if client == 0 {
                cx.set(["k"], round.to_string()).await?;
            } else {
                let value = cx.entry(["k"]).await?.value;
                let number: u32 = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                ensure!(number >= last, "`get` returned the smaller number {number} after {last}");
                last = number;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn one_of_twenty_deletes_removes(cx: Context) -> Verdict {
    for _ in 0..10 {
        cx.set(["k"], "v").await?;
        let removed = clients(&cx, 20, |cx, _| async move { cx.delete(["k"]).await }).await?;
        let removed = removed.into_iter().filter(|&removed| removed).count();
        ensure_eq!(removed, 1, "the number of concurrent deletes that reported removing the entry");
    }
    Ok(())
}

async fn get_inside_a_list_loop(cx: Context) -> Verdict {
    let items: Vec<_> =
        (0..60).map(|number: u64| SetItem::new(key(["k", &kv_core::Key::ordered(number)]), "v")).collect();
    cx.set_many(&items).await?;
    let mut query = ListQuery::new(key(["k"])).with_limit(7);
    loop {
        let page = cx.store().list(&query).await?;
        for item in page.items {
            cx.expect(&item.key, "v").await?;
            cx.set(&item.key, "v").await?;
        }
        match page.next {
            Some(next) => query = query.resume(next),
            None => return Ok(()),
        }
    }
}

async fn histories_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::PLAIN).await
}

async fn histories_with_expiry_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::PLAIN.with_expiry()).await
}

async fn histories_of_every_call_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::EVERY_CALL).await
}

async fn histories_of_every_call_with_expiry_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::EVERY_CALL.with_expiry()).await
}

/// A touch that runs beside a set or a delete comes before it or after it, and the results show which.
async fn previous_entries_show_the_touch_before_them(cx: Context) -> Verdict {
    const ROUNDS: u64 = 60;
    const HOUR: u64 = 3_600;
    let now = cx.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let moment = |hours: u64, round: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(now + hours * HOUR + round);
    let k = key(["k"]);
    for round in 0..ROUNDS {
        let (before, touched) = (moment(1, round), moment(2, round));
        cx.set_with(&k, "old", SetOptions::default().with_expiry(Expiry::At(before))).await?;
        let touching = tokio::spawn({
            let (cx, k) = (cx.clone(), k.clone());
            async move { cx.store().touch(&k, NewExpiry::At(touched)).await }
        });
        let writing = tokio::spawn({
            let (cx, k) = (cx.clone(), k.clone());
            async move {
                if round % 3 == 2 {
                    match cx.store().delete(&k, &DeleteOptions::default().with_previous()).await? {
                        DeleteOutcome::Deleted { previous } => Ok(previous),
                        other => Err(Failure::new(format!("`delete` of a live entry returned {other:?}"))),
                    }
                } else {
                    match cx.store().set(&k, "new".into(), &SetOptions::default().with_previous()).await? {
                        SetOutcome::Stored { previous, .. } => Ok(previous),
                        other @ SetOutcome::Refused { .. } => {
                            Err(Failure::new(format!("`set` without a condition returned {other:?}")))
                        }
                    }
                }
            }
        });
        let panicked = |error| Failure::new(format!("a task of the case panicked: {error}"));
        let found = touching.await.map_err(panicked)??;
        let previous = writing.await.map_err(panicked)??.map(|entry| entry.expires);
        // A touch after the write finds the new entry, or no entry.
        let is_first = match cx.store().get(&k).await? {
            Some(entry) => entry.expires == Expires::Never,
            None => found,
        };
        let expected = if is_first { touched } else { before };
        let order = if is_first { "before" } else { "after" };
        ensure_eq!(
            previous,
            Some(Expires::At(expected)),
            "the deadline of the previous entry, with a `touch` {order} it"
        );
    }
    Ok(())
}
