//! Futures that are dropped before they finish, or are not polled to the end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kv_core::{
    Capability, DeleteOptions, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry, SetItem,
    SetOptions, Transaction, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::polls::{poll_and_drop, poll_times};

cases! { cancel, Core:
    get: "A-1" [] "a dropped `get` has no effect";
    set: "A-1" [] "a dropped `set` writes the whole entry or nothing";
    set_with_a_deadline: "A-1" [Need::Has(Capability::Deadlines)] "a dropped `set` writes value and deadline together or neither";
    conditional_set: "A-1" [Need::Has(Capability::Conditions)] "a dropped conditional `set` is checked and applied as a whole or not at all";
    large_set: "A-1" [Need::KeepsAll] "a dropped `set` of a large value leaves the whole old or the whole new value";
    delete: "A-1" [] "a dropped `delete` removes the entry or leaves it unchanged";
    set_many: "A-1" [] "a dropped `set_many` writes each entry as a whole or not at all";
    delete_many: "A-1" [] "a dropped `delete_many` removes each entry or leaves it unchanged";
    increment: "A-1" [Need::Has(Capability::Counters)] "a dropped `increment` counts once or not at all";
    touch: "A-1" [Need::Has(Capability::Touch), Need::Has(Capability::Deadlines)] "a dropped `touch` moves the deadline or not, and keeps the value";
    commit: "A-1" [Need::Has(Capability::Transactions)] "a dropped `commit` applies all or nothing";
    list: "A-1" [Need::Has(Capability::List)] "a dropped `list` has no effect";
    clear: "A-1" [Need::Has(Capability::List)] "a dropped `clear` removes each entry or leaves it unchanged";
    watch: "A-1" [Need::Has(Capability::Watch)] "a watch that is dropped while it opens, or later, has no effect";
    set_at_every_point: "A-1" [] "a `set` that is dropped at any of its await points writes the whole entry or nothing";
    commit_at_every_point: "A-1" [Need::Has(Capability::Transactions)] "a `commit` that is dropped at any of its await points applies all or nothing";
    many_at_random: "A-1" [] "after hundreds of dropped calls, every other call gets its own answer";
    left_alone: "A-2" [] "calls that were started and are no longer polled do not block other calls, and finish when they are polled again";
}

/// The numbers of polls after which the cases drop a future: from none to enough for every store to finish.
const POLLS: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 8, 12, 20];

/// The maximum number of polls in a case that drops a future at each await point.
const MAX_POLLS: usize = 64;

/// Fails if the key holds neither the old nor the new value, or if the store does not work any more. Reads the value a
/// few times, because a late write may still arrive.
async fn expect_old_or_new(cx: &Context, key: &Key, old: Option<&Bytes>, new: Option<&Bytes>) -> Verdict {
    for _ in 0..3 {
        let found = cx.get(key).await?;
        let is_expected = found.as_ref() == old || found.as_ref() == new;
        let found = found.map_or("nothing".to_owned(), |value| format!("another value of {} bytes", value.len()));
        ensure!(
            is_expected,
            "expected `get` of {key} after a dropped call to return the old or the new value, but it returned {found}"
        );
        tokio::task::yield_now().await;
    }
    expect_working(cx).await
}

/// Fails unless the store still writes, reads and deletes.
async fn expect_working(cx: &Context) -> Verdict {
    cx.set(["other"], "works").await?;
    cx.expect(["other"], "works").await?;
    cx.delete(["other"]).await?;
    cx.expect_absent(["other"]).await
}

/// A different key for each round, so that a late write of one round does not affect the next.
fn key_of_round(polls: usize) -> Key {
    key(["k", &polls.to_string()])
}

async fn get(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    for polls in POLLS {
        let _ = poll_and_drop(polls, cx.store().get(&key(["k"]))).await;
        cx.expect(["k"], "v").await?;
    }
    expect_working(&cx).await
}

async fn set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in POLLS {
        let k = key_of_round(polls);
        let _ = poll_and_drop(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        expect_old_or_new(&cx, &k, None, Some(&new)).await?;
        let k = k.child("there")?;
        cx.set(&k, old.clone()).await?;
        let _ = poll_and_drop(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        expect_old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
    }
    Ok(())
}

async fn set_with_a_deadline(cx: Context) -> Verdict {
    let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)));
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.set(&k, "old").await?;
        let _ = poll_and_drop(polls, cx.store().set(&k, "new".into(), &options)).await;
        for _ in 0..3 {
            let entry = cx.entry(&k).await?;
            let is_new = entry.expires != kv_core::Expires::Never;
            ensure_eq!(
                entry.value,
                if is_new { "new" } else { "old" },
                "the value that `get` returned after a dropped `set`, with the deadline {:?}",
                entry.expires
            );
        }
    }
    expect_working(&cx).await
}

async fn conditional_set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.set(&k, old.clone()).await?;
        let held = SetOptions::default().with_when(When::Value(old.clone()));
        let _ = poll_and_drop(polls, cx.store().set(&k, new.clone(), &held)).await;
        expect_old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        let refused = SetOptions::default().with_when(When::Absent);
        let _ = poll_and_drop(polls, cx.store().set(&k, "never".into(), &refused)).await;
        expect_old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
    }
    Ok(())
}

async fn large_set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from(vec![b'o'; 1 << 20]), Bytes::from(vec![b'n'; 1 << 20]));
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.set(&k, old.clone()).await?;
        let _ = poll_and_drop(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        expect_old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        cx.delete(&k).await?;
    }
    Ok(())
}

async fn delete(cx: Context) -> Verdict {
    let old = Bytes::from("old");
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.set(&k, old.clone()).await?;
        let _ = poll_and_drop(polls, cx.store().delete(&k, &DeleteOptions::default())).await;
        expect_old_or_new(&cx, &k, Some(&old), None).await?;
    }
    Ok(())
}

async fn set_many(cx: Context) -> Verdict {
    let new = Bytes::from("new");
    for polls in POLLS {
        let keys: Vec<Key> = (0..20).map(|at| key_of_round(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), new.clone())).collect();
        let _ = poll_and_drop(polls, cx.store().set_many(&items)).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(
                found.is_none() || found == Some(new.clone()),
                "`get` of {key} after a dropped `set_many` returned {found:?} instead of nothing or the new value"
            );
        }
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn delete_many(cx: Context) -> Verdict {
    let old = Bytes::from("old");
    for polls in POLLS {
        let keys: Vec<Key> = (0..20).map(|at| key_of_round(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        for key in &keys {
            cx.set(key, old.clone()).await?;
        }
        let _ = poll_and_drop(polls, cx.store().delete_many(&keys)).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(
                found.is_none() || found == Some(old.clone()),
                "`get` of {key} after a dropped `delete_many` returned {found:?} instead of nothing or the old value"
            );
        }
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn increment(cx: Context) -> Verdict {
    let (one, two) = (Bytes::from("1"), Bytes::from("2"));
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.store().increment(&k, 1, &IncrementOptions::default()).await?;
        let _ = poll_and_drop(polls, cx.store().increment(&k, 1, &IncrementOptions::default())).await;
        expect_old_or_new(&cx, &k, Some(&one), Some(&two)).await?;
        let next = cx.store().increment(&k, 10, &IncrementOptions::default()).await?;
        ensure!(
            next == 11 || next == 12,
            "expected `increment` by 10 to return 11 or 12 after a dropped `increment` by 1, but it returned {next}"
        );
    }
    Ok(())
}

async fn touch(cx: Context) -> Verdict {
    let hour = Duration::from_secs(3_600);
    for polls in POLLS {
        let k = key_of_round(polls);
        cx.set(&k, "v").await?;
        let version = cx.entry(&k).await?.version;
        let _ = poll_and_drop(polls, cx.store().touch(&k, NewExpiry::After(hour))).await;
        let entry = cx.entry(&k).await?;
        ensure_eq!(
            (entry.value.as_ref(), entry.version),
            (b"v".as_slice(), version),
            "value and version that `get` returned after a dropped `touch`"
        );
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn commit(cx: Context) -> Verdict {
    for polls in POLLS {
        // The keys share three segments, so they are in one transaction group, unless the groups of a store have more
        // segments. Such a store refuses the transaction, and both keys stay absent.
        let (a, b) = (key_of_round(polls).child("a")?, key_of_round(polls).child("a")?.child("b")?);
        let transaction = Transaction::new().set(a.clone(), "new", Expiry::Never).set(b.clone(), "new", Expiry::Never);
        let _ = poll_and_drop(polls, cx.store().commit(&transaction)).await;
        for _ in 0..3 {
            // A reader that saw one effect must see all effects.
            if cx.get(&a).await?.is_some() {
                cx.expect(&b, "new").await?;
            }
            if cx.get(&b).await?.is_some() {
                cx.expect(&a, "new").await?;
            }
        }
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn list(cx: Context) -> Verdict {
    let keys: Vec<Key> = (0..50).map(|at| key(["k", &format!("{at:02}")])).collect();
    crate::cases::list::tree::write(&cx, &keys).await?;
    for polls in POLLS {
        let _ = poll_and_drop(polls, cx.store().list(&ListQuery::new(key(["k"])).with_limit(7))).await;
        ensure_eq!(cx.keys(["k"]).await?, keys, "the keys that `list` returned after a dropped `list`");
    }
    expect_working(&cx).await
}

async fn clear(cx: Context) -> Verdict {
    for polls in POLLS {
        let prefix = key_of_round(polls);
        let keys: Vec<Key> = (0..20).map(|at| prefix.child(at.to_string())).collect::<Result<_, _>>()?;
        for key in &keys {
            cx.set(key, "old").await?;
        }
        let _ = poll_and_drop(polls, cx.store().clear(&KeyPrefix::from(&prefix))).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(
                found.is_none() || found == Some("old".into()),
                "`get` of {key} after a dropped `clear` returned {found:?} instead of nothing or the old value"
            );
        }
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn watch(cx: Context) -> Verdict {
    for polls in POLLS {
        let _ = poll_and_drop(polls, cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL))).await;
        let stream = cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL)).await?;
        cx.set(key_of_round(polls), "v").await?;
        drop(stream);
        expect_working(&cx).await?;
    }
    Ok(())
}

async fn set_at_every_point(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in 0..MAX_POLLS {
        let k = key_of_round(polls);
        cx.set(&k, old.clone()).await?;
        let has_finished = poll_and_drop(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        expect_old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        if has_finished {
            break;
        }
    }
    Ok(())
}

async fn commit_at_every_point(cx: Context) -> Verdict {
    for polls in 0..MAX_POLLS {
        let (a, b) = (key_of_round(polls).child("a")?, key_of_round(polls).child("a")?.child("b")?);
        cx.set(&a, "old").await?;
        cx.set(&b, "old").await?;
        let transaction = Transaction::new().set(a.clone(), "new", Expiry::Never).set(b.clone(), "new", Expiry::Never);
        let has_finished = poll_and_drop(polls, cx.store().commit(&transaction)).await;
        // A reader that saw one effect must see all effects.
        for (one, other) in [(&a, &b), (&b, &a)] {
            if cx.get(one).await?.as_deref() == Some(b"new") {
                cx.expect(other, "new").await?;
            }
        }
        expect_working(&cx).await?;
        if has_finished {
            break;
        }
    }
    Ok(())
}

/// Models a loop that awaits one call in a branch of `select!` and keeps other calls for later.
async fn left_alone(cx: Context) -> Verdict {
    const CALLS_OF_EACH: usize = 3;
    const TIMEOUT: Duration = Duration::from_secs(10);
    for polls in [1, 2, 3, 5] {
        let (old, new) = (Bytes::from("old"), Bytes::from("new"));
        let keys: Vec<Key> =
            (0..CALLS_OF_EACH).map(|at| key_of_round(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        let to_delete: Vec<Key> = keys.iter().map(|key| key.child("gone")).collect::<Result<_, _>>()?;
        for key in &to_delete {
            cx.set(key, old.clone()).await?;
        }
        let (set, delete) = (SetOptions::default(), DeleteOptions::default());
        let mut started: Vec<BoxFuture<'_, kv_core::Result<()>>> = Vec::new();
        for (key, to_delete) in keys.iter().zip(&to_delete) {
            let value = new.clone();
            started.push(Box::pin(async { cx.store().set(key, value, &set).await.map(drop) }));
            started.push(Box::pin(async { cx.store().get(key).await.map(drop) }));
            started.push(Box::pin(async { cx.store().delete(to_delete, &delete).await.map(drop) }));
        }
        let mut kept = Vec::new();
        for mut call in started {
            if !poll_times(polls, call.as_mut()).await {
                kept.push(call);
            }
        }
        let others = tokio::time::timeout(TIMEOUT, expect_working(&cx)).await;
        ensure!(
            others.is_ok(),
            "other calls did not end within {TIMEOUT:?} while {} started calls were not polled",
            kept.len()
        );
        others.unwrap_or(Ok(()))?;
        for call in kept {
            call.await?;
        }
        for (key, to_delete) in keys.iter().zip(&to_delete) {
            cx.expect(key, new.clone()).await?;
            cx.expect_absent(to_delete).await?;
        }
    }
    Ok(())
}

async fn many_at_random(cx: Context) -> Verdict {
    let mut tasks = Vec::new();
    for task in 0..8_usize {
        let cx = cx.clone();
        tasks.push(tokio::spawn(async move {
            for at in 0..50_usize {
                let (mine, polls) = (key(["k", &task.to_string(), &at.to_string()]), (at * 7 + task) % 9);
                let _ = poll_and_drop(
                    polls,
                    cx.store().set(&mine, format!("dropped {task} {at}").into(), &SetOptions::default()),
                )
                .await;
                let _ = poll_and_drop(polls, cx.store().get(&mine)).await;
                // The answer to a dropped call must not go to the next call.
                let kept = key(["kept", &task.to_string(), &at.to_string()]);
                let value = format!("{task} {at}");
                cx.set(&kept, value.clone()).await?;
                cx.expect(&kept, value).await?;
            }
            Ok::<(), Failure>(())
        }));
    }
    for task in tasks {
        task.await.map_err(|error| Failure::new(format!("a task panicked: {error}")))??;
    }
    expect_working(&cx).await
}
