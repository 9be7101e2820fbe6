//! A disk that has no room for another write, until the harness makes room again.

use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    BoxFuture, Capability, CommitOutcome, DeleteOptions, Error, ErrorKind, Expiry, IncrementOptions, Key, KeyPrefix,
    KvStore, ListQuery, NewExpiry, SetItem, SetOptions, Transaction, WatchEvent, WatchQuery,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::{Watcher, key_of};

const FULL: Need = Need::FullDisk;

cases! { full_disk, Durable:
    writes_are_refused: "E-1" [FULL] "a write that finds no room on the disk fails as Capacity, or as Indeterminate if it may have happened";
    calls_end_in_time: "E-2" [FULL] "while the disk is full, every call ends within its timeout";
    acknowledged_writes_are_read: "G-2" [FULL] "while the disk is full, reads return every write that was acknowledged before and since";
    refused_writes_change_nothing: "E-1" [FULL] "a write that failed as Capacity leaves the value, the version and the deadline of the entry";
    refused_transactions_change_nothing: "X-1" [FULL, Need::Has(Capability::Transactions)] "a transaction that failed as Capacity has none of its effects";
    refused_writes_are_not_reported: "W-2" [FULL, Need::Has(Capability::Watch), Need::Has(Capability::Versions)] "a watcher gets no event of a write that failed as Capacity";
    deletes_work_or_are_refused: "D-1" [FULL] "on a full disk, a delete removes the entry, or fails as Capacity and leaves it";
    expired_entries_are_absent: "T-1" [FULL] "on a full disk, an expired entry is absent, and a `sweep` succeeds or fails as Capacity";
    cleared_entries_are_absent: "L-5" [FULL, Need::Has(Capability::List)] "on a full disk, a `clear` removes the entries, or fails as Capacity";
    writes_work_again: "E-1" [FULL] "when the disk has room again, the same handle writes again, and has every acknowledged write";
    a_reopened_store_has_all: "R-2" [FULL, Need::Reopen] "a store whose disk was full has every acknowledged write after a reopen";
}

/// The size of a value that finds no room on a full disk, in bytes.
const LARGE: usize = 64 << 10;
/// The maximum number of large values that fit on a full disk: 16 MiB of them.
const MAX_WRITES: usize = 256;
/// The timeouts of clause E-2 for an operation, plus a margin for a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A large value, different for each name.
fn large(name: &str) -> Bytes {
    let line = format!("the large value of {name};");
    line.repeat(LARGE / line.len() + 1).into()
}

fn filler(number: usize) -> Key {
    key(["filler", &number.to_string()])
}

/// Fails unless the error is one of a write that found no room.
fn expect_no_room(name: &str, error: &Error) -> Verdict {
    ensure!(
        error.kind() == ErrorKind::Capacity || error.maybe_applied(),
        "expected `{name}` on a full disk to fail as Capacity or Indeterminate, but its error is `{error}`, {:?}",
        error.kind()
    );
    Ok(())
}

/// Fills the disk and sets large values until one finds no room. Returns the number of acknowledged values.
async fn fill(cx: &Context) -> Result<usize, Failure> {
    cx.fill_disk().await?;
    for number in 0..MAX_WRITES {
        let (k, value) = (filler(number), large(&number.to_string()));
        let Ok(result) = tokio::time::timeout(CALL_TIMEOUT, cx.store().set(&k, value, &SetOptions::default())).await
        else {
            return Err(Failure::new(format!("`set` did not end within {CALL_TIMEOUT:?} on a full disk")));
        };
        match result {
            Ok(outcome) => ensure!(outcome.is_stored(), "`set` without a condition was refused: {outcome:?}"),
            Err(error) => {
                expect_no_room("set", &error)?;
                ensure_eq!(error.key(), Some(&k), "the key of the error `{error}` of `set`");
                return Ok(number);
            }
        }
    }
    expect_fillers(cx, MAX_WRITES).await?;
    Err(Failure::new(format!(
        "the store had room for {MAX_WRITES} values of {LARGE} bytes after the harness had filled the disk: let the \
         function of the suite leave less room"
    )))
}

/// Fails unless `get` returns all of the acknowledged large values.
async fn expect_fillers(cx: &Context, acknowledged: usize) -> Verdict {
    for number in 0..acknowledged {
        cx.expect(filler(number), large(&number.to_string())).await?;
    }
    Ok(())
}

/// A call: its name and its future.
type Call<'c> = (&'static str, BoxFuture<'c, Result<(), Error>>);

/// Every write that needs room and that the store supports. The keys begin with the name.
fn writes<'c>(cx: &'c Context, name: &'c str) -> Vec<Call<'c>> {
    let (store, options) = (cx.store(), SetOptions::default());
    let set = {
        let options = options.clone();
        async move { store.set(&key([name, "set"]), large("set"), &options).await.map(drop) }
    };
    let set_many = async move {
        let items = ["one", "two"].map(|item| SetItem::new(key([name, item]), large(item)));
        store.set_many(&items).await.into_iter().try_for_each(|outcome| outcome.map(drop))
    };
    let overwrite = async move { store.set(&key(["old"]), large("old"), &options).await.map(drop) };
    let mut writes: Vec<Call<'c>> =
        vec![("set", Box::pin(set)), ("set_many", Box::pin(set_many)), ("set of a stored key", Box::pin(overwrite))];
    if cx.has(Capability::Counters) {
        let increment =
            async move { store.increment(&key([name, "count"]), 1, &IncrementOptions::default()).await.map(drop) };
        writes.push(("increment", Box::pin(increment)));
    }
    if cx.has(Capability::Touch) {
        let touch = async move { store.touch(&key(["old"]), NewExpiry::Never).await.map(drop) };
        writes.push(("touch", Box::pin(touch)));
    }
    if cx.has(Capability::Transactions) {
        let transaction = Transaction::new().set(key([name, "commit"]), large("commit"), Expiry::Never);
        writes.push(("commit", Box::pin(async move { store.commit(&transaction).await.map(drop) })));
    }
    writes
}

async fn writes_are_refused(cx: Context) -> Verdict {
    cx.set(["old"], "v").await?;
    fill(&cx).await?;
    for (name, write) in writes(&cx, "full") {
        // Some room may be left for small writes, and in place of old values.
        if let Err(error) = write.await {
            expect_no_room(name, &error)?;
        }
    }
    cx.free_disk().await
}

async fn calls_end_in_time(cx: Context) -> Verdict {
    cx.set(["old"], "v").await?;
    fill(&cx).await?;
    let mut calls = writes(&cx, "full");
    let store = cx.store();
    calls.push(("get", Box::pin(async { store.get(&key(["old"])).await.map(drop) })));
    if cx.has(Capability::List) {
        calls.push(("list", Box::pin(async { store.list(&ListQuery::default().with_limit(10)).await.map(drop) })));
    }
    calls.push(("delete", Box::pin(async { store.delete(&key(["old"]), &DeleteOptions::default()).await.map(drop) })));
    for (name, call) in calls {
        let ended = tokio::time::timeout(CALL_TIMEOUT, call).await;
        ensure!(ended.is_ok(), "`{name}` did not end within {CALL_TIMEOUT:?} on a full disk");
    }
    cx.free_disk().await
}

async fn acknowledged_writes_are_read(cx: Context) -> Verdict {
    for number in 0..20 {
        cx.set(["before", &number.to_string()], number.to_string()).await?;
    }
    let acknowledged = fill(&cx).await?;
    expect_fillers(&cx, acknowledged).await?;
    let keys: Vec<Key> = (0..20).map(|number| key(["before", &number.to_string()])).collect();
    for (number, found) in cx.store().get_many(&keys).await.into_iter().enumerate() {
        let found = found?.map(|entry| entry.value);
        ensure_eq!(found, Some(number.to_string().into()), "the value that `get_many` returned on a full disk");
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(key(["before"])).await?.len(), 20, "the number of keys that `list` returned on a full disk");
    }
    cx.free_disk().await
}

async fn refused_writes_change_nothing(cx: Context) -> Verdict {
    let ttl = Duration::from_secs(3_600);
    for name in ["set", "kept"] {
        cx.set_ttl([name], "before", ttl).await?;
    }
    cx.set(["count"], "5").await?;
    let mut before = Vec::new();
    for name in ["set", "kept", "count"] {
        before.push(cx.entry([name]).await?);
    }
    fill(&cx).await?;
    let mut results = vec![cx.store().set(&key(["set"]), large("set"), &SetOptions::default()).await.map(drop)];
    let keep = SetOptions::default().with_expiry(Expiry::Keep);
    results.push(cx.store().set(&key(["kept"]), large("kept"), &keep).await.map(drop));
    if cx.has(Capability::Counters) {
        results.push(cx.store().increment(&key(["count"]), 1, &IncrementOptions::default()).await.map(drop));
    }
    for ((name, result), before) in ["set", "kept", "count"].into_iter().zip(results).zip(before) {
        match result {
            Err(error) if error.kind() == ErrorKind::Capacity => {
                ensure_eq!(cx.entry([name]).await?, before, "the entry {name} after its write failed as Capacity");
            }
            Err(error) => expect_no_room("the write", &error)?,
            // The room in place of the old value may be enough.
            Ok(()) => ensure!(
                cx.entry([name]).await?.value != before.value,
                "a write of {name} on a full disk was acknowledged, but `get` returned the old value"
            ),
        }
    }
    cx.free_disk().await
}

async fn refused_transactions_change_nothing(cx: Context) -> Verdict {
    // The keys share their first three segments, so they are in one transaction group.
    let [deleted, replaced, new] = ["deleted", "replaced", "new"].map(|name| key(["g", "g", "g", name]));
    cx.set(&deleted, "before").await?;
    cx.set(&replaced, "before").await?;
    fill(&cx).await?;
    let transaction = Transaction::new()
        .delete(deleted.clone())
        .set(replaced.clone(), large("replaced"), Expiry::Never)
        .set(new.clone(), large("new"), Expiry::Never);
    let result = cx.store().commit(&transaction).await;
    let found = [cx.get(&deleted).await?, cx.get(&replaced).await?, cx.get(&new).await?];
    let unchanged = [Some("before".into()), Some("before".into()), None];
    let changed = [None, Some(large("replaced")), Some(large("new"))];
    match result {
        Ok(CommitOutcome::Committed { .. }) => {
            ensure!(found == changed, "a transaction on a full disk was committed, but lacks some of its effects");
        }
        Ok(refused) => return Err(Failure::new(format!("`commit` without a check was refused: {refused:?}"))),
        Err(error) if error.kind() == ErrorKind::Capacity => {
            ensure!(found == unchanged, "a transaction failed with `{error}`, but has some of its effects");
        }
        Err(error) => {
            expect_no_room("commit", &error)?;
            ensure!(found == changed || found == unchanged, "only a part of a transaction on a full disk is visible");
        }
    }
    cx.free_disk().await
}

async fn refused_writes_are_not_reported(cx: Context) -> Verdict {
    cx.set(["old"], "before").await?;
    fill(&cx).await?;
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(KeyPrefix::ALL)).await?;
    for name in ["old", "new"] {
        let result = cx.store().set(&key([name]), large(name), &SetOptions::default()).await;
        if let Ok(outcome) = result {
            // This value had room. Its event is allowed, and the next value has none.
            ensure!(outcome.is_stored(), "`set` without a condition was refused");
        }
    }
    cx.free_disk().await?;
    cx.set(["last"], "v").await?;
    let events = watcher.events_until(&key(["last"]), "v").await?;
    for event in events.iter().filter(|event| [Some(&key(["old"])), Some(&key(["new"]))].contains(&key_of(event))) {
        let stored = key_of(event).cloned().unwrap_or_else(|| key(["old"]));
        let found = cx.store().get(&stored).await?;
        let is_stored = match event {
            WatchEvent::Set { entry: Some(entry), .. } => {
                found.as_ref().is_some_and(|found| found.version == entry.version)
            }
            _ => found.is_none(),
        };
        ensure!(is_stored, "the watch reported a change of {stored} on a full disk that the store does not have");
    }
    Ok(())
}

async fn deletes_work_or_are_refused(cx: Context) -> Verdict {
    for number in 0..10 {
        cx.set(["old", &number.to_string()], large("old")).await?;
    }
    let acknowledged = fill(&cx).await?;
    for number in 0..10 {
        let k = key(["old", &number.to_string()]);
        match cx.store().delete(&k, &DeleteOptions::default()).await {
            Ok(outcome) => {
                ensure!(outcome.is_deleted(), "`delete` of a live entry on a full disk returned {outcome:?}");
                cx.expect_absent(&k).await?;
            }
            Err(error) => {
                expect_no_room("delete", &error)?;
                if error.kind() == ErrorKind::Capacity {
                    cx.expect(&k, large("old")).await?;
                }
            }
        }
    }
    cx.free_disk().await?;
    for number in 0..10 {
        cx.delete(["old", &number.to_string()]).await?;
        cx.expect_absent(["old", &number.to_string()]).await?;
    }
    expect_fillers(&cx, acknowledged).await
}

async fn expired_entries_are_absent(cx: Context) -> Verdict {
    const TTL: Duration = Duration::from_millis(300);
    cx.set_ttl(["k"], "v", TTL).await?;
    fill(&cx).await?;
    cx.advance_past(TTL).await;
    cx.expect_absent(["k"]).await?;
    if let Err(error) = cx.store().sweep().await {
        expect_no_room("sweep", &error)?;
    }
    cx.expect_absent(["k"]).await?;
    cx.free_disk().await?;
    cx.store().sweep().await?;
    cx.expect_absent(["k"]).await
}

async fn cleared_entries_are_absent(cx: Context) -> Verdict {
    for number in 0..10 {
        cx.set(["cleared", &number.to_string()], number.to_string()).await?;
    }
    cx.set(["kept"], "v").await?;
    fill(&cx).await?;
    match cx.store().clear(&key(["cleared"]).into()).await {
        Ok(removed) => {
            ensure_eq!(removed, 10, "the number of entries that `clear` returned on a full disk");
            ensure_eq!(cx.keys(key(["cleared"])).await?, [], "the keys that `list` returned after `clear`");
        }
        Err(error) => expect_no_room("clear", &error)?,
    }
    cx.expect(["kept"], "v").await?;
    cx.free_disk().await?;
    cx.store().clear(&key(["cleared"]).into()).await?;
    ensure_eq!(cx.keys(key(["cleared"])).await?, [], "the keys that `list` returned after `clear`");
    cx.expect(["kept"], "v").await
}

async fn writes_work_again(cx: Context) -> Verdict {
    cx.set(["old"], "v").await?;
    let mut acknowledged = 0;
    for round in ["first", "second"] {
        acknowledged = acknowledged.max(fill(&cx).await?);
        cx.free_disk().await?;
        for (name, write) in writes(&cx, round) {
            if let Err(error) = write.await {
                return Err(Failure::new(format!("the disk has room again, but `{name}` still fails: {error}")));
            }
        }
        cx.expect([round, "set"], large("set")).await?;
        cx.expect(["old"], large("old")).await?;
    }
    expect_fillers(&cx, acknowledged).await
}

async fn a_reopened_store_has_all(mut cx: Context) -> Verdict {
    cx.set(["old"], "v").await?;
    let mut acknowledged = 0;
    for round in 0..2 {
        acknowledged = acknowledged.max(fill(&cx).await?);
        if round == 0 {
            // A flush or a reopen may need room itself.
            cx.free_disk().await?;
            cx.store().flush().await?;
            cx.reopen().await?;
        } else if let Err(failure) = cx.reopen().await {
            cx.free_disk().await?;
            cx.reopen().await.map_err(|again| {
                Failure::new(format!("the store did not open on a full disk ({failure}), nor with room: {again}"))
            })?;
        }
        cx.expect(["old"], "v").await?;
        expect_fillers(&cx, acknowledged).await?;
    }
    cx.free_disk().await?;
    cx.set(["new"], large("new")).await?;
    cx.expect(["new"], large("new")).await
}
