//! What a store lacks it refuses by name: it never ignores it, and it changes nothing.

use std::fmt::Debug;
use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, ErrorKind, Expires, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery,
    NewExpiry, SetItem, SetOptions, Transaction, Version, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { refuses, Core:
    versions_in_conditions: "I-2" [Need::Lacks(Capability::Versions)] "without versions a condition on one is Unsupported";
    versions_in_checks: "I-2" [Need::Lacks(Capability::Versions), Need::Has(Capability::Transactions)] "without versions a check of one is Unsupported";
    deadlines_are_not_made_up: "T-4" [Need::Lacks(Capability::Deadlines)] "without deadlines an entry that will expire does not claim to stay for ever";
    conditions_on_set: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions a set under any but Always is Unsupported";
    conditions_on_delete: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions a delete under any but Always is Unsupported";
    conditions_in_set_many: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions an entry of set_many under one is Unsupported, and the others are stored";
    previous_on_set: "I-2" [Need::Lacks(Capability::Previous)] "without previous values a set that asks for one is Unsupported";
    previous_on_delete: "I-2" [Need::Lacks(Capability::Previous)] "without previous values a delete that asks for one is Unsupported";
    previous_in_set_many: "I-2" [Need::Lacks(Capability::Previous)] "without previous values an entry of set_many that asks for one is Unsupported, and the others are stored";
    list: "I-2" [Need::Lacks(Capability::List)] "without list every list is Unsupported";
    clear: "I-2" [Need::Lacks(Capability::List)] "without list a clear is Unsupported";
    snapshot_of_a_prefix: "I-2" [Need::Lacks(Capability::List), Need::Has(Capability::Watch)] "without list a watch with a snapshot of a prefix is Unsupported";
    touch: "I-2" [Need::Lacks(Capability::Touch)] "without touch every touch is Unsupported";
    increment: "I-2" [Need::Lacks(Capability::Counters)] "without counters every increment is Unsupported";
    commit: "I-2" [Need::Lacks(Capability::Transactions)] "without transactions every commit is Unsupported, the empty one too";
    watch: "I-2" [Need::Lacks(Capability::Watch)] "without watch every watch is Unsupported";
    publish: "I-2" [Need::Lacks(Capability::Messages)] "without messages every publish is Unsupported";
    subscribe: "I-2" [Need::Lacks(Capability::Messages)] "without messages every subscription is Unsupported";
    errors_say_what_is_missing: "E-1" [] "an Unsupported error names the capability, and the store lacks it";
}

/// Every condition that has no version, some of which would hold.
fn conditions() -> [When; 4] {
    [When::Absent, When::Present, When::Value("v".into()), When::Value("".into())]
}

/// Fails unless the call is refused for want of the capability.
fn refused<T: Debug>(result: kv_core::Result<T>, capability: Capability, what: &dyn Debug) -> Verdict {
    match result {
        Err(error) if error.kind() == (ErrorKind::Unsupported { capability }) => Ok(()),
        Err(error) => Err(Failure::new(format!("{what:?} fails with {error:?}, and not for want of {capability}"))),
        Ok(answer) => Err(Failure::new(format!("{what:?} gives {answer:?}, and the store declares no {capability}"))),
    }
}

/// A key that holds `v` for ever, and one that holds nothing; `unchanged` sees that it stays so.
async fn subject(cx: &Context) -> Result<[Key; 2], Failure> {
    cx.set(["there"], "v").await?;
    Ok([key(["there"]), key(["missing"])])
}

async fn unchanged(cx: &Context) -> Verdict {
    cx.expect(["there"], "v").await?;
    cx.expect_absent(["missing"]).await
}

async fn set_is_refused(cx: &Context, options: SetOptions, capability: Capability) -> Verdict {
    for key in subject(cx).await? {
        refused(cx.store().set(&key, "w".into(), &options).await, capability, &options)?;
    }
    unchanged(cx).await
}

async fn delete_is_refused(cx: &Context, options: DeleteOptions, capability: Capability) -> Verdict {
    for key in subject(cx).await? {
        refused(cx.store().delete(&key, &options).await, capability, &options)?;
    }
    unchanged(cx).await
}

/// The entry with the options fails alone, between two that are stored.
async fn set_many_is_refused(cx: &Context, options: SetOptions, capability: Capability) -> Verdict {
    let [there, missing] = subject(cx).await?;
    for key in [there, missing] {
        let beside = |name: &str| SetItem::new(crate::context::key([name]), "stored");
        let items = [beside("one"), SetItem::new(key, "w").with_options(options.clone()), beside("two")];
        let mut outcomes = cx.store().set_many(&items).await.into_iter();
        let (Some(one), Some(middle), Some(two), None) =
            (outcomes.next(), outcomes.next(), outcomes.next(), outcomes.next())
        else {
            return Err(Failure::new("set_many of three gave another number of outcomes"));
        };
        refused(middle, capability, &options)?;
        ensure!(one?.is_stored() && two?.is_stored(), "a write without options was not stored");
        cx.expect(["one"], "stored").await?;
        cx.expect(["two"], "stored").await?;
    }
    unchanged(cx).await
}

async fn versions_in_conditions(cx: Context) -> Verdict {
    let missing = if cx.has(Capability::Conditions) { Capability::Versions } else { Capability::Conditions };
    let when = When::Version(Version::random());
    set_is_refused(&cx, SetOptions::default().with_when(when.clone()), missing).await?;
    set_many_is_refused(&cx, SetOptions::default().with_when(when.clone()), missing).await?;
    delete_is_refused(&cx, DeleteOptions::default().with_when(when), missing).await
}

async fn versions_in_checks(cx: Context) -> Verdict {
    for key in subject(&cx).await? {
        let transaction = Transaction::new().check(key.clone(), When::Version(Version::random())).delete(key);
        refused(cx.store().commit(&transaction).await, Capability::Versions, &transaction)?;
    }
    unchanged(&cx).await
}

async fn deadlines_are_not_made_up(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(3_600)).await?;
    let expires = cx.entry(["k"]).await?.expires;
    ensure!(expires != Expires::Never, "an entry with a time to live says that it never expires");
    Ok(())
}

async fn conditions_on_set(cx: Context) -> Verdict {
    for when in conditions() {
        set_is_refused(&cx, SetOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn conditions_on_delete(cx: Context) -> Verdict {
    for when in conditions() {
        delete_is_refused(&cx, DeleteOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn conditions_in_set_many(cx: Context) -> Verdict {
    for when in conditions() {
        set_many_is_refused(&cx, SetOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn previous_on_set(cx: Context) -> Verdict {
    set_is_refused(&cx, SetOptions::default().with_previous(), Capability::Previous).await
}

async fn previous_on_delete(cx: Context) -> Verdict {
    delete_is_refused(&cx, DeleteOptions::default().with_previous(), Capability::Previous).await
}

async fn previous_in_set_many(cx: Context) -> Verdict {
    set_many_is_refused(&cx, SetOptions::default().with_previous(), Capability::Previous).await
}

async fn list(cx: Context) -> Verdict {
    subject(&cx).await?;
    for query in
        [ListQuery::default(), ListQuery::new(key(["there"])), ListQuery::default().with_keys_only().with_limit(1)]
    {
        refused(cx.store().list(&query).await, Capability::List, &query)?;
    }
    Ok(())
}

async fn clear(cx: Context) -> Verdict {
    subject(&cx).await?;
    for prefix in [KeyPrefix::ALL, key(["there"]).into(), key(["missing"]).into()] {
        refused(cx.store().clear(&prefix).await, Capability::List, &prefix)?;
    }
    unchanged(&cx).await
}

async fn snapshot_of_a_prefix(cx: Context) -> Verdict {
    let query = WatchQuery::prefix(KeyPrefix::ALL).with_snapshot();
    refused(cx.store().watch(&query).await.map(|_| "a stream"), Capability::List, &query)
}

async fn touch(cx: Context) -> Verdict {
    for key in subject(&cx).await? {
        for expiry in [NewExpiry::Never, NewExpiry::After(Duration::ZERO), NewExpiry::At(cx.now())] {
            refused(cx.store().touch(&key, expiry).await, Capability::Touch, &expiry)?;
        }
    }
    unchanged(&cx).await
}

async fn increment(cx: Context) -> Verdict {
    for key in subject(&cx).await? {
        for expiry in [Expiry::Never, Expiry::After(Duration::from_secs(1))] {
            let options = IncrementOptions::default().with_expiry(expiry);
            refused(cx.store().increment(&key, 1, &options).await, Capability::Counters, &options)?;
        }
    }
    unchanged(&cx).await
}

async fn commit(cx: Context) -> Verdict {
    let [there, missing] = subject(&cx).await?;
    let transactions = [
        Transaction::new(),
        Transaction::new().check(there.clone(), When::Present),
        Transaction::new().set(missing, "w", Expiry::Never),
        Transaction::new().delete(there),
    ];
    for transaction in transactions {
        refused(cx.store().commit(&transaction).await, Capability::Transactions, &transaction)?;
    }
    unchanged(&cx).await
}

async fn watch(cx: Context) -> Verdict {
    let k = key(["k"]);
    for query in [
        WatchQuery::prefix(KeyPrefix::ALL),
        WatchQuery::key(k.clone()),
        WatchQuery::key(k.clone()).with_snapshot(),
        WatchQuery::prefix(k).with_snapshot().with_keys_only(),
    ] {
        refused(cx.store().watch(&query).await.map(|_| "a stream"), Capability::Watch, &query)?;
    }
    Ok(())
}

async fn publish(cx: Context) -> Verdict {
    for key in subject(&cx).await? {
        refused(cx.store().publish(&key, "w".into()).await, Capability::Messages, &"publish")?;
    }
    unchanged(&cx).await
}

async fn subscribe(cx: Context) -> Verdict {
    for channels in [KeyPrefix::ALL, key(["c"]).into()] {
        refused(cx.store().subscribe(&channels).await.map(|_| "a stream"), Capability::Messages, &"subscribe")?;
    }
    Ok(())
}

/// One call for each capability that gates an operation; whatever is refused must be what is not declared.
async fn errors_say_what_is_missing(cx: Context) -> Verdict {
    let (k, store) = (key(["k"]), cx.store());
    let errors = [
        store.set(&k, "v".into(), &SetOptions::default().with_when(When::Absent)).await.err(),
        store.set(&k, "v".into(), &SetOptions::default().with_previous()).await.err(),
        store.list(&ListQuery::default()).await.err(),
        store.touch(&k, NewExpiry::Never).await.err(),
        store.increment(&key(["n"]), 1, &IncrementOptions::default()).await.err(),
        store.commit(&Transaction::new()).await.err(),
        store.watch(&WatchQuery::key(k.clone())).await.err(),
        store.publish(&k, "v".into()).await.err(),
    ];
    let gates = [
        Capability::Conditions,
        Capability::Previous,
        Capability::List,
        Capability::Touch,
        Capability::Counters,
        Capability::Transactions,
        Capability::Watch,
        Capability::Messages,
    ];
    for (error, gate) in errors.into_iter().zip(gates) {
        let said = error.map(|error| error.kind());
        let expected = (!cx.has(gate)).then_some(ErrorKind::Unsupported { capability: gate });
        ensure_eq!(said, expected, "the error of the operation that {gate} allows");
    }
    Ok(())
}
