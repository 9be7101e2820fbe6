//! Several openers of one store: at once, one after the other, and in another process.

use futures_util::future::join_all;
use kv_core::{Capability, KeyPrefix, KvStore, SetOptions, WatchQuery};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;
use crate::watcher::Watcher;

const TWO: Need = Need::SecondHandle;

cases! { openers, Shared:
    sixteen_at_once: "R-1" [TWO] "16 openers of an empty store at once all succeed, and their first writes as well";
    the_second_sees_all: "R-1" [TWO] "a second opener sees every acknowledged entry, and the first handle keeps all of them";
    the_first_writes_on: "R-1" [TWO] "the first handle reads and writes while other openers come and go";
    watches_go_on: "R-1" [TWO, Need::Has(Capability::Watch)] "a watch goes on without a gap while other openers come and go";
    another_process_shares_or_is_refused: "R-1" [Need::Crash] "a second process shares an open store, or gets a clear error if the store declares no `shared`; the first process loses nothing";
}

const ENTRIES: usize = 50;

fn value(number: usize) -> String {
    format!("value {number}")
}

async fn sixteen_at_once(cx: Context) -> Verdict {
    const OPENERS: usize = 16;
    let handles = clients(&cx, OPENERS, |cx, opener| async move {
        let store = cx.other_store().await?;
        let outcome = store.set(&key(["by", &opener.to_string()]), "v".into(), &SetOptions::default()).await?;
        ensure!(outcome.is_stored(), "`set` without a condition was refused: {outcome:?}");
        Ok(store)
    })
    .await?;
    for store in &handles {
        for opener in 0..OPENERS {
            let found = store.contains(&key(["by", &opener.to_string()])).await?;
            ensure!(found, "a handle does not see the first write of opener {opener}");
        }
    }
    if let (true, Some(store)) = (cx.has(Capability::List), handles.first()) {
        ensure_eq!(store.clear(&KeyPrefix::ALL).await?, OPENERS as u64, "the number of entries that `clear` removed");
    }
    for closed in join_all(handles.iter().map(KvStore::close)).await {
        closed?;
    }
    Ok(())
}

async fn the_second_sees_all(cx: Context) -> Verdict {
    let mut before = Vec::new();
    for number in 0..ENTRIES {
        let k = key(["k", &number.to_string()]);
        cx.set(&k, value(number)).await?;
        before.push((k.clone(), Some(cx.entry(&k).await?)));
    }
    let other = cx.second_handle().await?;
    for (k, entry) in &before {
        ensure_eq!(other.get(k).await?, *entry, "the entry of {k} at the second opener");
    }
    other.close().await?;
    for (k, entry) in &before {
        ensure_eq!(cx.store().get(k).await?, *entry, "the entry of {k} at the first handle, after a second opener");
    }
    Ok(())
}

async fn the_first_writes_on(cx: Context) -> Verdict {
    for opener in 0..5 {
        cx.set(["before"], value(opener)).await?;
        let other = cx.second_handle().await?;
        let outcome = other.set(&key(["other"]), value(opener).into(), &SetOptions::default()).await?;
        ensure!(outcome.is_stored(), "`set` without a condition was refused: {outcome:?}");
        cx.expect(["before"], value(opener)).await?;
        cx.expect(["other"], value(opener)).await?;
        cx.set(["beside"], value(opener)).await?;
        if opener % 2 == 0 {
            other.close().await?;
        }
        drop(other);
        cx.set(["after"], value(opener)).await?;
        for name in ["before", "beside", "after"] {
            cx.expect([name], value(opener)).await?;
        }
    }
    Ok(())
}

async fn watches_go_on(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(KeyPrefix::ALL)).await?;
    for opener in 0..5 {
        let other = cx.second_handle().await?;
        let found = other.get(&key(["nothing"])).await?;
        ensure!(found.is_none(), "`get` of a key that was never written returned {found:?}");
        cx.set(["beside"], value(opener)).await?;
        watcher.expect_set(&key(["beside"]), value(opener)).await?;
        if opener % 2 == 0 {
            other.close().await?;
        }
        drop(other);
        cx.set(["after"], value(opener)).await?;
        watcher.expect_set(&key(["after"]), value(opener)).await?;
    }
    Ok(())
}

async fn another_process_shares_or_is_refused(mut cx: Context) -> Verdict {
    for number in 0..ENTRIES {
        cx.set(["k", &number.to_string()], value(number)).await?;
    }
    cx.store().flush().await?;
    let is_shared = cx.capabilities().shared;
    match cx.open_beside_in_child().await {
        Ok(child) => {
            ensure!(is_shared, "a second process opened the store, which does not declare `shared`");
            for number in 0..ENTRIES {
                let found = child.store().get(&key(["k", &number.to_string()])).await?.map(|entry| entry.value);
                ensure_eq!(found, Some(value(number).into()), "the value that `get` of the second process returned");
            }
            let outcome = child.store().set(&key(["there"]), "v".into(), &SetOptions::default()).await?;
            ensure!(outcome.is_stored(), "`set` without a condition was refused: {outcome:?}");
            cx.expect(["there"], "v").await?;
            child.kill().await?;
        }
        Err(failure) if is_shared => {
            return Err(Failure::new(format!(
                "the store declares `shared`, but a second process could not open it: {failure}"
            )));
        }
        // A second process must not take the store of the first process for a damaged one.
        Err(failure) => ensure!(
            !failure.message().contains("corrupt"),
            "a second process was refused, but not because another process has the store open: {failure}"
        ),
    }
    cx.set(["later"], "v").await?;
    for _ in 0..2 {
        cx.expect(["later"], "v").await?;
        for number in 0..ENTRIES {
            cx.expect(["k", &number.to_string()], value(number)).await?;
        }
        cx.reopen().await?;
    }
    Ok(())
}
