//! Capabilities that a store lacks: a call that needs one is refused as Unsupported, and changes nothing.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{
    Capability, ChangeSink, DeleteOptions, ErrorKind, Expires, Expiry, GapReason, IncrementOptions, Key, KeyPrefix,
    KvStore, ListQuery, Moment, NewExpiry, Operation, SetItem, SetOptions, Transaction, Version, WatchQuery,
    WatchTarget, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { refuses, Core:
    versions_in_conditions: "I-2" [Need::Lacks(Capability::Versions)] "without versions, a condition on a version is Unsupported";
    versions_in_checks: "I-2" [Need::Lacks(Capability::Versions), Need::Has(Capability::Transactions)] "without versions, a check of a version is Unsupported";
    deadlines_are_not_made_up: "T-4" [Need::Lacks(Capability::Deadlines)] "a store without deadlines does not show Never for an entry that expires";
    conditions_on_set: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions, `set` with any condition except Always is Unsupported";
    conditions_on_delete: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions, `delete` with any condition except Always is Unsupported";
    conditions_in_set_many: "I-2" [Need::Lacks(Capability::Conditions)] "without conditions, an item of `set_many` with a condition is Unsupported, and the other items are stored";
    previous_on_set: "I-2" [Need::Lacks(Capability::Previous)] "without previous entries, `set` with `return_previous` is Unsupported";
    previous_on_delete: "I-2" [Need::Lacks(Capability::Previous)] "without previous entries, `delete` with `return_previous` is Unsupported";
    previous_in_set_many: "I-2" [Need::Lacks(Capability::Previous)] "without previous entries, an item of `set_many` with `return_previous` is Unsupported, and the other items are stored";
    list: "I-2" [Need::Lacks(Capability::List)] "without list, `list` is Unsupported";
    clear: "I-2" [Need::Lacks(Capability::List)] "without list, `clear` is Unsupported";
    snapshot_of_a_prefix: "I-2" [Need::Lacks(Capability::List), Need::Has(Capability::Watch)] "without list, a watch with a snapshot of a prefix is Unsupported";
    touch: "I-2" [Need::Lacks(Capability::Touch)] "without touch, `touch` is Unsupported";
    increment: "I-2" [Need::Lacks(Capability::Counters)] "without counters, `increment` is Unsupported";
    commit: "I-2" [Need::Lacks(Capability::Transactions)] "without transactions, `commit` is Unsupported, also of an empty transaction";
    watch: "I-2" [Need::Lacks(Capability::Watch)] "without watch, `watch` is Unsupported";
    sinks: "I-2" [Need::Lacks(Capability::Sinks)] "without sinks, `watch_into` is Unsupported";
    publish: "I-2" [Need::Lacks(Capability::Messages)] "without messages, `publish` is Unsupported";
    subscribe: "I-2" [Need::Lacks(Capability::Messages)] "without messages, `subscribe` is Unsupported";
    errors_say_what_is_missing: "E-1" [] "an Unsupported error names a capability that the store lacks";
}

/// Every condition except those on versions. On a store with conditions, some of them would hold.
fn conditions() -> [When; 4] {
    [When::Absent, When::Present, When::Value("v".into()), When::Value("".into())]
}

/// Fails unless the call is refused as Unsupported for lack of this capability.
fn expect_unsupported<T: Debug>(
    result: kv_core::Result<T>,
    capability: Capability,
    operation: Operation,
    argument: &dyn Debug,
) -> Verdict {
    let call = || format!("expected `{operation}` of {argument:?} to fail as Unsupported for lack of {capability}");
    match result {
        Err(error) if error.kind() == (ErrorKind::Unsupported { capability }) => Ok(()),
        Err(error) => Err(Failure::new(format!("{}, but its error is {error:?}", call()))),
        Ok(answer) => Err(Failure::new(format!("{}, but it returned {answer:?}", call()))),
    }
}

/// Writes a permanent entry, and returns its key and an absent key. `expect_unchanged` checks both.
async fn there_and_missing(cx: &Context) -> Result<[Key; 2], Failure> {
    cx.set(["there"], "v").await?;
    Ok([key(["there"]), key(["missing"])])
}

async fn expect_unchanged(cx: &Context) -> Verdict {
    cx.expect(["there"], "v").await?;
    cx.expect_absent(["missing"]).await
}

async fn expect_set_unsupported(cx: &Context, options: SetOptions, capability: Capability) -> Verdict {
    for key in there_and_missing(cx).await? {
        expect_unsupported(cx.store().set(&key, "w".into(), &options).await, capability, Operation::Set, &options)?;
    }
    expect_unchanged(cx).await
}

async fn expect_delete_unsupported(cx: &Context, options: DeleteOptions, capability: Capability) -> Verdict {
    for key in there_and_missing(cx).await? {
        expect_unsupported(cx.store().delete(&key, &options).await, capability, Operation::Delete, &options)?;
    }
    expect_unchanged(cx).await
}

/// Fails unless only the item with the options fails, and the items before and after it are stored.
async fn expect_set_many_unsupported(cx: &Context, options: SetOptions, capability: Capability) -> Verdict {
    let [there, missing] = there_and_missing(cx).await?;
    for key in [there, missing] {
        let beside = |name: &str| SetItem::new(crate::context::key([name]), "stored");
        let items = [beside("one"), SetItem::new(key, "w").with_options(options.clone()), beside("two")];
        let mut outcomes = cx.store().set_many(&items).await.into_iter();
        let (Some(one), Some(middle), Some(two), None) =
            (outcomes.next(), outcomes.next(), outcomes.next(), outcomes.next())
        else {
            return Err(Failure::new("`set_many` of three items did not return three outcomes"));
        };
        expect_unsupported(middle, capability, Operation::SetMany, &options)?;
        ensure!(one?.is_stored() && two?.is_stored(), "`set_many` refused an item without options");
        cx.expect(["one"], "stored").await?;
        cx.expect(["two"], "stored").await?;
    }
    expect_unchanged(cx).await
}

async fn versions_in_conditions(cx: Context) -> Verdict {
    let missing = if cx.has(Capability::Conditions) { Capability::Versions } else { Capability::Conditions };
    let when = When::Version(Version::random());
    expect_set_unsupported(&cx, SetOptions::default().with_when(when.clone()), missing).await?;
    expect_set_many_unsupported(&cx, SetOptions::default().with_when(when.clone()), missing).await?;
    expect_delete_unsupported(&cx, DeleteOptions::default().with_when(when), missing).await
}

async fn versions_in_checks(cx: Context) -> Verdict {
    for key in there_and_missing(&cx).await? {
        let transaction = Transaction::new().check(key.clone(), When::Version(Version::random())).delete(key);
        expect_unsupported(
            cx.store().commit(&transaction).await,
            Capability::Versions,
            Operation::Commit,
            &transaction,
        )?;
    }
    expect_unchanged(&cx).await
}

async fn deadlines_are_not_made_up(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(3_600)).await?;
    let expires = cx.entry(["k"]).await?.expires;
    ensure!(expires != Expires::Never, "`get` of an entry with a time to live returned the deadline Never");
    Ok(())
}

async fn conditions_on_set(cx: Context) -> Verdict {
    for when in conditions() {
        expect_set_unsupported(&cx, SetOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn conditions_on_delete(cx: Context) -> Verdict {
    for when in conditions() {
        expect_delete_unsupported(&cx, DeleteOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn conditions_in_set_many(cx: Context) -> Verdict {
    for when in conditions() {
        expect_set_many_unsupported(&cx, SetOptions::default().with_when(when), Capability::Conditions).await?;
    }
    Ok(())
}

async fn previous_on_set(cx: Context) -> Verdict {
    expect_set_unsupported(&cx, SetOptions::default().with_previous(), Capability::Previous).await
}

async fn previous_on_delete(cx: Context) -> Verdict {
    expect_delete_unsupported(&cx, DeleteOptions::default().with_previous(), Capability::Previous).await
}

async fn previous_in_set_many(cx: Context) -> Verdict {
    expect_set_many_unsupported(&cx, SetOptions::default().with_previous(), Capability::Previous).await
}

async fn list(cx: Context) -> Verdict {
    there_and_missing(&cx).await?;
    for query in
        [ListQuery::default(), ListQuery::new(key(["there"])), ListQuery::default().with_keys_only().with_limit(1)]
    {
        expect_unsupported(cx.store().list(&query).await, Capability::List, Operation::List, &query)?;
    }
    Ok(())
}

async fn clear(cx: Context) -> Verdict {
    there_and_missing(&cx).await?;
    for prefix in [KeyPrefix::ALL, key(["there"]).into(), key(["missing"]).into()] {
        expect_unsupported(cx.store().clear(&prefix).await, Capability::List, Operation::Clear, &prefix)?;
    }
    expect_unchanged(&cx).await
}

async fn snapshot_of_a_prefix(cx: Context) -> Verdict {
    let query = WatchQuery::prefix(KeyPrefix::ALL).with_snapshot();
    let result = cx.store().watch(&query).await.map(|_| "a stream");
    expect_unsupported(result, Capability::List, Operation::Watch, &query)
}

async fn touch(cx: Context) -> Verdict {
    for key in there_and_missing(&cx).await? {
        for expiry in [NewExpiry::Never, NewExpiry::After(Duration::ZERO), NewExpiry::At(cx.now())] {
            expect_unsupported(cx.store().touch(&key, expiry).await, Capability::Touch, Operation::Touch, &expiry)?;
        }
    }
    expect_unchanged(&cx).await
}

async fn increment(cx: Context) -> Verdict {
    for key in there_and_missing(&cx).await? {
        for expiry in [Expiry::Never, Expiry::After(Duration::from_secs(1))] {
            let options = IncrementOptions::default().with_expiry(expiry);
            let result = cx.store().increment(&key, 1, &options).await;
            expect_unsupported(result, Capability::Counters, Operation::Increment, &options)?;
        }
    }
    expect_unchanged(&cx).await
}

async fn commit(cx: Context) -> Verdict {
    let [there, missing] = there_and_missing(&cx).await?;
    let transactions = [
        Transaction::new(),
        Transaction::new().check(there.clone(), When::Present),
        Transaction::new().set(missing, "w", Expiry::Never),
        Transaction::new().delete(there),
    ];
    for transaction in transactions {
        let result = cx.store().commit(&transaction).await;
        expect_unsupported(result, Capability::Transactions, Operation::Commit, &transaction)?;
    }
    expect_unchanged(&cx).await
}

async fn watch(cx: Context) -> Verdict {
    let k = key(["k"]);
    for query in [
        WatchQuery::prefix(KeyPrefix::ALL),
        WatchQuery::key(k.clone()),
        WatchQuery::key(k.clone()).with_snapshot(),
        WatchQuery::prefix(k).with_snapshot().with_keys_only(),
    ] {
        let result = cx.store().watch(&query).await.map(|_| "a stream");
        expect_unsupported(result, Capability::Watch, Operation::Watch, &query)?;
    }
    Ok(())
}

/// A sink that must not be called.
#[derive(Debug)]
struct Unused;

impl ChangeSink for Unused {
    fn changed(&self, _key: &Key) {}

    fn current(&self, _as_of: Moment) {}

    fn lost(&self, _reason: GapReason) {}
}

async fn sinks(cx: Context) -> Verdict {
    for target in [WatchTarget::Key(key(["k"])), KeyPrefix::ALL.into()] {
        let result = cx.store().watch_into(&target, Arc::new(Unused)).await.map(|_| "a registration");
        expect_unsupported(result, Capability::Sinks, Operation::Watch, &target)?;
    }
    Ok(())
}

async fn publish(cx: Context) -> Verdict {
    for key in there_and_missing(&cx).await? {
        let result = cx.store().publish(&key, "w".into()).await;
        expect_unsupported(result, Capability::Messages, Operation::Publish, &key)?;
    }
    expect_unchanged(&cx).await
}

async fn subscribe(cx: Context) -> Verdict {
    for channels in [KeyPrefix::ALL, key(["c"]).into()] {
        let result = cx.store().subscribe(&channels).await.map(|_| "a stream");
        expect_unsupported(result, Capability::Messages, Operation::Subscribe, &channels)?;
    }
    Ok(())
}

/// Makes one call for each capability that gates an operation. The refused calls must be those of the missing
/// capabilities.
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
        let kind = error.map(|error| error.kind());
        let expected = (!cx.has(gate)).then_some(ErrorKind::Unsupported { capability: gate });
        ensure_eq!(kind, expected, "the error of the operation that needs the capability {gate}");
    }
    Ok(())
}
