//! Errors: their kind and context, and the secrets that they must not show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_core::{
    Capability, DeleteOptions, Error, ErrorKind, Expiry, GetOptions, IncrementOptions, Key, KeyPrefix, KvStore,
    ListQuery, NewExpiry, Operation, SetItem, SetOptions, Transaction, Version, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { errors, Core:
    closed_after_close: "R-3" [] "after `close`, every operation fails as Closed";
    close_twice: "R-3" [] "`close` can be called repeatedly";
    close_closes_every_clone: "R-3" [] "`close` of one clone closes all clones";
    close_under_load: "R-3" [] "operations that run during `close` either succeed or fail as Closed";
    say_what_failed: "E-1" [] "an error has the operation, the backend and the key";
    say_that_it_is_closed: "E-1" [] "a Closed error has the operation and the backend and is not retryable";
    of_batches_say_what_failed: "E-1" [] "each error of a batch has the key of its own item";
    show_no_value_and_no_key: "E-3" [] "Display, Debug and the sources of an error show no value and no key";
    the_store_shows_nothing_stored: "E-3" [] "the Debug form of a store shows neither keys nor values";
    info_shows_no_url: "E-3" [] "the name of a store is short and has no address or credentials";
    no_versions_are_made_up: "S-3" [Need::Lacks(Capability::Versions)] "a store without versions returns none from `set` and `get`";
    unknown_versions_are_no_error: "S-2" [Need::Has(Capability::Conditions), Need::Has(Capability::Versions)]
        "a condition on a version of any length that no write returned fails, and is no error";
    after_errors_it_works: "E-1" [] "after a failed call the store works as before";
}

const CANARY: &str = "c4n4ry-5ecret";

async fn closed_after_close(cx: Context) -> Verdict {
    cx.set(["k"], "1").await?;
    cx.store().close().await?;
    for (operation, result) in every_operation(&cx).await {
        let Err(error) = result else {
            return Err(Failure::new(format!(
                "expected `{operation}` after `close` to fail as Closed, but it succeeded"
            )));
        };
        ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of the error of `{operation}` after close");
    }
    Ok(())
}

async fn close_twice(cx: Context) -> Verdict {
    for _ in 0..3 {
        cx.store().close().await?;
    }
    Ok(())
}

async fn close_closes_every_clone(cx: Context) -> Verdict {
    let clone = cx.store().clone();
    cx.set(["k"], "v").await?;
    clone.close().await?;
    drop(clone);
    match cx.store().get(&key(["k"])).await {
        Ok(found) => Err(Failure::new(format!(
            "expected `get` on a clone of a closed store to fail as Closed, but it returned {found:?}"
        ))),
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of the error of `get` on a clone of a closed store");
            Ok(())
        }
    }
}

async fn close_under_load(cx: Context) -> Verdict {
    let is_closed = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for task in 0..8 {
        let (cx, is_closed) = (cx.clone(), Arc::clone(&is_closed));
        tasks.push(tokio::spawn(async move {
            let key = key(["k", &task.to_string()]);
            loop {
                let was_closed = is_closed.load(Ordering::Acquire);
                let ended = match cx.store().set(&key, "v".into(), &SetOptions::default()).await {
                    Ok(_) => cx.store().get(&key).await.err(),
                    Err(error) => Some(error),
                };
                match ended {
                    Some(error) => return Ok(error),
                    None if was_closed => {
                        return Err(Failure::new(
                            "`set` that began after `close` had returned was stored, but it should fail as Closed",
                        ));
                    }
                    None => tokio::task::yield_now().await,
                }
            }
        }));
    }
    cx.set(["started"], "v").await?;
    tokio::task::yield_now().await;
    cx.store().close().await?;
    is_closed.store(true, Ordering::Release);
    for task in tasks {
        let error = task.await.map_err(|error| Failure::new(format!("a task panicked: {error}")))??;
        ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of the error of an operation during `close` (`{error}`)");
    }
    Ok(())
}

async fn say_what_failed(cx: Context) -> Verdict {
    let Some(error) = set_over_the_limit(&cx, &key(["some", "key"])).await? else { return Ok(()) };
    ensure_eq!(error.operation(), Some(Operation::Set), "the operation of the error `{error}` of `set`");
    ensure_eq!(error.backend(), Some(cx.store().info().name.as_ref()), "the backend of the error `{error}` of `set`");
    ensure_eq!(error.key(), Some(&key(["some", "key"])), "the key of the error `{error}` of `set`");
    ensure!(
        !error.is_retryable() && !error.maybe_applied(),
        "expected the error of an invalid `set` to be neither retryable nor possibly applied, but `{error}` is"
    );
    let text = error.to_string();
    ensure!(
        text.contains("set") && text.contains("invalid"),
        "expected the error text of an invalid `set` to contain `set` and `invalid`, but it is `{error}`"
    );
    Ok(())
}

async fn say_that_it_is_closed(cx: Context) -> Verdict {
    cx.store().close().await?;
    let error = match cx.store().get(&key(["k"])).await {
        Ok(found) => {
            return Err(Failure::new(format!(
                "expected `get` after `close` to fail as Closed, but it returned {found:?}"
            )));
        }
        Err(error) => error,
    };
    ensure_eq!(error.operation(), Some(Operation::Get), "the operation of the error `{error}` of `get` after `close`");
    ensure_eq!(
        error.backend(),
        Some(cx.store().info().name.as_ref()),
        "the backend of the error `{error}` of `get` after `close`"
    );
    ensure!(!error.is_retryable(), "expected the error of `get` after `close` not to be retryable, but `{error}` is");
    Ok(())
}

async fn of_batches_say_what_failed(cx: Context) -> Verdict {
    let Some(value) = over_the_limit(&cx) else { return Ok(()) };
    let items = [
        SetItem::new(key(["fine"]), "v"),
        SetItem::new(key(["bad", "1"]), value.clone()),
        SetItem::new(key(["bad", "2"]), value),
    ];
    let failed: Vec<Option<Key>> = cx
        .store()
        .set_many(&items)
        .await
        .into_iter()
        .map(|outcome| outcome.err().and_then(|error| error.key().cloned()))
        .collect();
    ensure_eq!(
        failed,
        [None, Some(key(["bad", "1"])), Some(key(["bad", "2"]))],
        "the keys of the errors that `set_many` returned"
    );
    Ok(())
}

async fn show_no_value_and_no_key(cx: Context) -> Verdict {
    let secret = key([CANARY, "k"]);
    let mut errors = Vec::new();
    errors.extend(set_over_the_limit(&cx, &secret).await?);
    cx.set(&secret, format!("{CANARY} is no number")).await?;
    errors.extend(cx.store().increment(&secret, 1, &IncrementOptions::default()).await.err());
    let list = ListQuery::new(key([CANARY])).with_after(secret.clone()).with_limit(0);
    errors.extend(cx.store().list(&list).await.err());
    cx.store().close().await?;
    errors.extend(cx.store().get(&secret).await.err());
    errors.extend(cx.store().set(&secret, CANARY.into(), &SetOptions::default()).await.err());
    ensure!(errors.len() >= 2, "expected calls on a closed store to fail, but they succeeded");
    for error in errors {
        for text in [error.to_string(), format!("{error:?}")] {
            ensure!(!text.contains(CANARY), "an error shows a key or a value: `{}`", text.replace(CANARY, "(secret)"));
        }
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let text = format!("{cause} {cause:?}");
            ensure!(!text.contains(CANARY), "the source of the error `{error}` shows a key or a value");
            source = cause.source();
        }
    }
    Ok(())
}

async fn the_store_shows_nothing_stored(cx: Context) -> Verdict {
    cx.set([CANARY], CANARY).await?;
    cx.get([CANARY]).await?;
    let store = cx.store().inner();
    for text in [format!("{store:?}"), format!("{store:#?}"), format!("{:?}", store.info())] {
        ensure!(!text.contains(CANARY), "the Debug form of the store shows a stored key or value");
    }
    Ok(())
}

async fn info_shows_no_url(cx: Context) -> Verdict {
    let name = cx.store().info().name.clone();
    ensure!(!name.is_empty() && name.len() <= 40, "expected a name of 1 to 40 bytes, but `info` has `{name}`");
    ensure!(!name.contains(['/', '@', ':', '?']), "the name `{name}` contains an address");
    // `info` needs no connection.
    cx.store().close().await?;
    ensure_eq!(cx.store().info().name, name, "the name that `info` returned after `close`");
    Ok(())
}

async fn no_versions_are_made_up(cx: Context) -> Verdict {
    ensure_eq!(cx.set(["k"], "v").await?, None, "the version that `set` returned");
    ensure_eq!(cx.entry(["k"]).await?.version, None, "the version that `get` returned");
    Ok(())
}

async fn unknown_versions_are_no_error(cx: Context) -> Verdict {
    cx.set(["k"], "old").await?;
    for bytes in [[0].as_slice(), &[0xff; 3], &[0; 16], &[0xff; 16]] {
        let options = SetOptions::default().with_when(When::Version(Version::from_bytes(bytes)?));
        ensure!(
            !cx.store().set(&key(["k"]), "new".into(), &options).await?.is_stored(),
            "`set` conditional on the version {bytes:?}, which no write returned, was stored over an entry"
        );
        ensure!(
            !cx.store().set(&key(["none"]), "new".into(), &options).await?.is_stored(),
            "`set` conditional on the version {bytes:?} was stored under an absent key"
        );
    }
    cx.expect(["k"], "old").await
}

async fn after_errors_it_works(cx: Context) -> Verdict {
    for at in 0..20 {
        set_over_the_limit(&cx, &key(["k"])).await?;
        let name = at.to_string();
        cx.set(["k", &name], name.clone()).await?;
        cx.expect(["k", &name], &name).await?;
    }
    Ok(())
}

/// The results of every operation that the store supports, in the order of the trait.
async fn every_operation(cx: &Context) -> Vec<(Operation, kv_core::Result<()>)> {
    let (store, k) = (cx.store(), key(["k"]));
    let mut results = vec![
        (Operation::Get, store.get(&k).await.map(drop)),
        (Operation::Set, store.set(&k, "2".into(), &SetOptions::default()).await.map(drop)),
        (Operation::Delete, store.delete(&k, &DeleteOptions::default()).await.map(drop)),
        (Operation::Contains, store.contains(&k).await.map(drop)),
        (Operation::Get, store.get_with(&k, &GetOptions::default().with_fresh()).await.map(drop)),
        (Operation::Time, store.time().await.map(drop)),
    ];
    results.extend(
        store.get_many(std::slice::from_ref(&k)).await.into_iter().map(|result| (Operation::GetMany, result.map(drop))),
    );
    let items = [SetItem::new(k.clone(), "3")];
    results.extend(store.set_many(&items).await.into_iter().map(|result| (Operation::SetMany, result.map(drop))));
    results.extend(
        store
            .delete_many(std::slice::from_ref(&k))
            .await
            .into_iter()
            .map(|result| (Operation::DeleteMany, result.map(drop))),
    );
    if cx.has(Capability::List) {
        results.push((Operation::List, store.list(&ListQuery::default()).await.map(drop)));
        results.push((Operation::Clear, store.clear(&KeyPrefix::ALL).await.map(drop)));
    }
    if cx.has(Capability::Touch) {
        results.push((Operation::Touch, store.touch(&k, NewExpiry::Never).await.map(drop)));
    }
    if cx.has(Capability::Counters) {
        results.push((Operation::Increment, store.increment(&k, 1, &IncrementOptions::default()).await.map(drop)));
    }
    if cx.has(Capability::Transactions) {
        let transaction = Transaction::new().set(k.clone(), "4", Expiry::Never);
        results.push((Operation::Commit, store.commit(&transaction).await.map(drop)));
    }
    if cx.has(Capability::Watch) {
        results.push((Operation::Watch, store.watch(&WatchQuery::key(k.clone())).await.map(drop)));
    }
    if cx.has(Capability::Messages) {
        results.push((Operation::Publish, store.publish(&k, "m".into()).await));
        results.push((Operation::Subscribe, store.subscribe(&k.into()).await.map(drop)));
    }
    results.push((Operation::Ping, store.ping().await));
    results.push((Operation::Flush, store.flush().await));
    results.push((Operation::Sweep, store.sweep().await.map(drop)));
    results
}

/// The error of a `set` over the size limit, or `None` if the limit is too large for a test.
async fn set_over_the_limit(cx: &Context, key: &Key) -> Result<Option<Error>, Failure> {
    let Some(value) = over_the_limit(cx) else { return Ok(None) };
    match cx.store().set(key, value, &SetOptions::default()).await {
        Ok(outcome) => Err(Failure::new(format!(
            "expected `set` of a value over the limit to fail as Invalid, but it returned {outcome:?}"
        ))),
        Err(error) => Ok(Some(error)),
    }
}

/// A secret value one byte over the limit, or `None` if the limit is too large for a test.
pub(in crate::cases) fn over_the_limit(cx: &Context) -> Option<Bytes> {
    let size = cx.limits().max_value_bytes.checked_add(1).filter(|size| *size <= 1 << 28)?;
    let mut value = vec![0; size];
    value.iter_mut().zip(CANARY.bytes()).for_each(|(byte, secret)| *byte = secret);
    Some(value.into())
}
