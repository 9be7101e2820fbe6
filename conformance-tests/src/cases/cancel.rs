//! Futures that are dropped before they are through, or polled no further.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::poll;
use kv_core::{
    Capability, DeleteOptions, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry, SetItem,
    SetOptions, Transaction, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { cancel, Core:
    get: "A-1" [] "a dropped get harms nothing";
    set: "A-1" [] "a dropped set has written the whole entry or nothing";
    set_with_a_deadline: "A-1" [Need::Has(Capability::Deadlines)] "a dropped set brings value and deadline together or neither";
    conditional_set: "A-1" [Need::Has(Capability::Conditions)] "a dropped conditional set is judged and applied as a whole or not at all";
    large_set: "A-1" [Need::KeepsAll] "a dropped set of a large value leaves the old one or the new one, and no part of either";
    delete: "A-1" [] "a dropped delete has removed the entry or left it as it was";
    set_many: "A-1" [] "a dropped set_many has written each entry whole or not at all";
    delete_many: "A-1" [] "a dropped delete_many has removed each entry or left it";
    increment: "A-1" [Need::Has(Capability::Counters)] "a dropped increment counts once or not at all";
    touch: "A-1" [Need::Has(Capability::Touch), Need::Has(Capability::Deadlines)] "a dropped touch moves the deadline or does not, and leaves the value";
    commit: "A-1" [Need::Has(Capability::Transactions)] "a dropped commit has applied all or nothing";
    list: "A-1" [Need::Has(Capability::List)] "a dropped list harms nothing";
    clear: "A-1" [Need::Has(Capability::List)] "a dropped clear leaves each entry whole or gone";
    watch: "A-1" [Need::Has(Capability::Watch)] "a dropped watch, opening or open, harms nothing";
    set_at_every_point: "A-1" [] "a set that is dropped at any of its await points has written the whole entry or nothing";
    commit_at_every_point: "A-1" [Need::Has(Capability::Transactions)] "a commit that is dropped at any of its await points has applied all or nothing";
    many_at_random: "A-1" [] "hundreds of calls that are dropped at different points leave answers with those who asked";
    left_alone: "A-2" [] "calls that are begun and polled no further hold up no other, and are done when somebody polls on";
}

/// How often a future is polled before it is dropped, in turn: not at all, and up to where every store is through.
const POLLS: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 8, 12, 20];

/// Where a case that goes through every await point stops at the latest.
const MAX_POLLS: usize = 64;

/// Polls a future so often, a moment apart, and drops it. Tells whether it was through.
async fn abandon(polls: usize, future: impl Future<Output: Sized> + Send) -> bool {
    poll_for_a_while(polls, pin!(future)).await
}

async fn poll_for_a_while(polls: usize, mut future: Pin<&mut (impl Future<Output: Sized> + Send + ?Sized)>) -> bool {
    for at in 0..polls {
        if poll!(future.as_mut()).is_ready() {
            return true;
        }
        // Some steps need only another turn, others an answer from elsewhere.
        if at % 2 == 0 {
            tokio::task::yield_now().await;
        } else {
            let _ = tokio::time::timeout(Duration::from_micros(300), std::future::pending::<()>()).await;
        }
    }
    false
}

/// Fails unless the key, read a few times while a late write may still arrive, is what it was or what it was to be, and
/// the store goes on working.
async fn old_or_new(cx: &Context, key: &Key, old: Option<&Bytes>, new: Option<&Bytes>) -> Verdict {
    for _ in 0..3 {
        let found = cx.get(key).await?;
        ensure!(
            found.as_ref() == old || found.as_ref() == new,
            "after a dropped call, {key} is neither as before nor as after"
        );
        tokio::task::yield_now().await;
    }
    goes_on(cx).await
}

/// Fails unless the store reads its writes.
async fn goes_on(cx: &Context) -> Verdict {
    cx.set(["other"], "works").await?;
    cx.expect(["other"], "works").await?;
    cx.delete(["other"]).await?;
    cx.expect_absent(["other"]).await
}

/// A key of its own for each try, so that a late write of one does not count for the next.
fn own(polls: usize) -> Key {
    key(["k", &polls.to_string()])
}

async fn get(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    for polls in POLLS {
        let _ = abandon(polls, cx.store().get(&key(["k"]))).await;
        cx.expect(["k"], "v").await?;
    }
    goes_on(&cx).await
}

async fn set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in POLLS {
        let k = own(polls);
        let _ = abandon(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        old_or_new(&cx, &k, None, Some(&new)).await?;
        let k = k.child("there")?;
        cx.set(&k, old.clone()).await?;
        let _ = abandon(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
    }
    Ok(())
}

async fn set_with_a_deadline(cx: Context) -> Verdict {
    let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)));
    for polls in POLLS {
        let k = own(polls);
        cx.set(&k, "old").await?;
        let _ = abandon(polls, cx.store().set(&k, "new".into(), &options)).await;
        for _ in 0..3 {
            let entry = cx.entry(&k).await?;
            let is_new = entry.expires != kv_core::Expires::Never;
            ensure_eq!(
                entry.value,
                if is_new { "new" } else { "old" },
                "the value beside the deadline {:?}",
                entry.expires
            );
        }
    }
    goes_on(&cx).await
}

async fn conditional_set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in POLLS {
        let k = own(polls);
        cx.set(&k, old.clone()).await?;
        let held = SetOptions::default().with_when(When::Value(old.clone()));
        let _ = abandon(polls, cx.store().set(&k, new.clone(), &held)).await;
        old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        let refused = SetOptions::default().with_when(When::Absent);
        let _ = abandon(polls, cx.store().set(&k, "never".into(), &refused)).await;
        old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
    }
    Ok(())
}

async fn large_set(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from(vec![b'o'; 1 << 20]), Bytes::from(vec![b'n'; 1 << 20]));
    for polls in POLLS {
        let k = own(polls);
        cx.set(&k, old.clone()).await?;
        let _ = abandon(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        cx.delete(&k).await?;
    }
    Ok(())
}

async fn delete(cx: Context) -> Verdict {
    let old = Bytes::from("old");
    for polls in POLLS {
        let k = own(polls);
        cx.set(&k, old.clone()).await?;
        let _ = abandon(polls, cx.store().delete(&k, &DeleteOptions::default())).await;
        old_or_new(&cx, &k, Some(&old), None).await?;
    }
    Ok(())
}

async fn set_many(cx: Context) -> Verdict {
    let new = Bytes::from("new");
    for polls in POLLS {
        let keys: Vec<Key> = (0..20).map(|at| own(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), new.clone())).collect();
        let _ = abandon(polls, cx.store().set_many(&items)).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(found.is_none() || found == Some(new.clone()), "after a dropped set_many, {key} has {found:?}");
        }
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn delete_many(cx: Context) -> Verdict {
    let old = Bytes::from("old");
    for polls in POLLS {
        let keys: Vec<Key> = (0..20).map(|at| own(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        for key in &keys {
            cx.set(key, old.clone()).await?;
        }
        let _ = abandon(polls, cx.store().delete_many(&keys)).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(found.is_none() || found == Some(old.clone()), "after a dropped delete_many, {key} has {found:?}");
        }
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn increment(cx: Context) -> Verdict {
    let (one, two) = (Bytes::from("1"), Bytes::from("2"));
    for polls in POLLS {
        let k = own(polls);
        cx.store().increment(&k, 1, &IncrementOptions::default()).await?;
        let _ = abandon(polls, cx.store().increment(&k, 1, &IncrementOptions::default())).await;
        old_or_new(&cx, &k, Some(&one), Some(&two)).await?;
        let next = cx.store().increment(&k, 10, &IncrementOptions::default()).await?;
        ensure!(next == 11 || next == 12, "after a dropped increment of 1 the counter goes on at {next}");
    }
    Ok(())
}

async fn touch(cx: Context) -> Verdict {
    let hour = Duration::from_secs(3_600);
    for polls in POLLS {
        let k = own(polls);
        cx.set(&k, "v").await?;
        let version = cx.entry(&k).await?.version;
        let _ = abandon(polls, cx.store().touch(&k, NewExpiry::After(hour))).await;
        let entry = cx.entry(&k).await?;
        ensure_eq!(
            (entry.value.as_ref(), entry.version),
            (b"v".as_slice(), version),
            "value and version after a dropped touch"
        );
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn commit(cx: Context) -> Verdict {
    for polls in POLLS {
        // In one group, wherever groups begin.
        let (a, b) = (own(polls).child("a")?, own(polls).child("a")?.child("b")?);
        let transaction = Transaction::new().set(a.clone(), "new", Expiry::Never).set(b.clone(), "new", Expiry::Never);
        // The first segments are shared; a store that groups by more than these keys share refuses both alike.
        let _ = abandon(polls, cx.store().commit(&transaction)).await;
        for _ in 0..3 {
            // Who has seen one effect sees all.
            if cx.get(&a).await?.is_some() {
                cx.expect(&b, "new").await?;
            }
            if cx.get(&b).await?.is_some() {
                cx.expect(&a, "new").await?;
            }
        }
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn list(cx: Context) -> Verdict {
    let keys: Vec<Key> = (0..50).map(|at| key(["k", &format!("{at:02}")])).collect();
    super::list::write(&cx, &keys).await?;
    for polls in POLLS {
        let _ = abandon(polls, cx.store().list(&ListQuery::new(key(["k"])).with_limit(7))).await;
        ensure_eq!(cx.keys(["k"]).await?, keys, "the list after a dropped one");
    }
    goes_on(&cx).await
}

async fn clear(cx: Context) -> Verdict {
    for polls in POLLS {
        let prefix = own(polls);
        let keys: Vec<Key> = (0..20).map(|at| prefix.child(at.to_string())).collect::<Result<_, _>>()?;
        for key in &keys {
            cx.set(key, "old").await?;
        }
        let _ = abandon(polls, cx.store().clear(&KeyPrefix::from(&prefix))).await;
        for key in &keys {
            let found = cx.get(key).await?;
            ensure!(found.is_none() || found == Some("old".into()), "after a dropped clear, {key} has {found:?}");
        }
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn watch(cx: Context) -> Verdict {
    for polls in POLLS {
        let _ = abandon(polls, cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL))).await;
        let stream = cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL)).await?;
        cx.set(own(polls), "v").await?;
        drop(stream);
        goes_on(&cx).await?;
    }
    Ok(())
}

async fn set_at_every_point(cx: Context) -> Verdict {
    let (old, new) = (Bytes::from("old"), Bytes::from("new"));
    for polls in 0..MAX_POLLS {
        let k = own(polls);
        cx.set(&k, old.clone()).await?;
        let is_through = abandon(polls, cx.store().set(&k, new.clone(), &SetOptions::default())).await;
        old_or_new(&cx, &k, Some(&old), Some(&new)).await?;
        if is_through {
            break;
        }
    }
    Ok(())
}

async fn commit_at_every_point(cx: Context) -> Verdict {
    for polls in 0..MAX_POLLS {
        let (a, b) = (own(polls).child("a")?, own(polls).child("a")?.child("b")?);
        cx.set(&a, "old").await?;
        cx.set(&b, "old").await?;
        let transaction = Transaction::new().set(a.clone(), "new", Expiry::Never).set(b.clone(), "new", Expiry::Never);
        let is_through = abandon(polls, cx.store().commit(&transaction)).await;
        // Who has seen one effect sees all.
        for (one, other) in [(&a, &b), (&b, &a)] {
            if cx.get(one).await?.as_deref() == Some(b"new") {
                cx.expect(other, "new").await?;
            }
        }
        goes_on(&cx).await?;
        if is_through {
            break;
        }
    }
    Ok(())
}

/// As a loop does that awaits one call in a branch of `select!`, and keeps others for later.
async fn left_alone(cx: Context) -> Verdict {
    const OF_EACH: usize = 3;
    const LONGEST: Duration = Duration::from_secs(10);
    for polls in [1, 2, 3, 5] {
        let (old, new) = (Bytes::from("old"), Bytes::from("new"));
        let keys: Vec<Key> = (0..OF_EACH).map(|at| own(polls).child(at.to_string())).collect::<Result<_, _>>()?;
        let gone: Vec<Key> = keys.iter().map(|key| key.child("gone")).collect::<Result<_, _>>()?;
        for key in &gone {
            cx.set(key, old.clone()).await?;
        }
        let (set, delete) = (SetOptions::default(), DeleteOptions::default());
        let mut begun: Vec<BoxFuture<'_, kv_core::Result<()>>> = Vec::new();
        for (key, gone) in keys.iter().zip(&gone) {
            let value = new.clone();
            begun.push(Box::pin(async { cx.store().set(key, value, &set).await.map(drop) }));
            begun.push(Box::pin(async { cx.store().get(key).await.map(drop) }));
            begun.push(Box::pin(async { cx.store().delete(gone, &delete).await.map(drop) }));
        }
        let mut kept = Vec::new();
        for mut call in begun {
            if !poll_for_a_while(polls, call.as_mut()).await {
                kept.push(call);
            }
        }
        let others = tokio::time::timeout(LONGEST, goes_on(&cx)).await;
        ensure!(others.is_ok(), "calls wait behind {} that were begun and are polled by nobody", kept.len());
        others.unwrap_or(Ok(()))?;
        for call in kept {
            call.await?;
        }
        for (key, gone) in keys.iter().zip(&gone) {
            cx.expect(key, new.clone()).await?;
            cx.expect_absent(gone).await?;
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
                let _ = abandon(
                    polls,
                    cx.store().set(&mine, format!("dropped {task} {at}").into(), &SetOptions::default()),
                )
                .await;
                let _ = abandon(polls, cx.store().get(&mine)).await;
                // An answer to someone's dropped question must not come to this one.
                let kept = key(["kept", &task.to_string(), &at.to_string()]);
                let value = format!("{task} {at}");
                cx.set(&kept, value.clone()).await?;
                cx.expect(&kept, value).await?;
            }
            Ok::<(), crate::failure::Failure>(())
        }));
    }
    for task in tasks {
        task.await.map_err(|error| crate::failure::Failure::new(format!("a task ended: {error}")))??;
    }
    goes_on(&cx).await
}
