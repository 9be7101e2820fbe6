//! Concurrent calls: a failing call does not affect the others, and a call that reads and writes does both in one step.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, ErrorKind, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry,
    SetOptions, SetOutcome, When,
};

use super::errors::over_the_limit;
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const DEADLINES: Need = Need::Has(Capability::Deadlines);
const PREVIOUS: Need = Need::Has(Capability::Previous);
const TOUCH: Need = Need::Has(Capability::Touch);

const LONG: Duration = Duration::from_secs(3_600);
const ROUNDS: usize = 50;

cases! { neighbours, Core:
    of_invalid_increments: "E-1" [COUNTERS] "writes succeed although a concurrent `increment` is Invalid";
    of_oversized_values: "E-1" [] "writes succeed although the value of a concurrent `set` is over the limit";
    of_refused_sets: "S-1" [CONDITIONS, Need::KeepsAll] "writes are applied although a concurrent `set` is refused";
    touch_and_delete: "T-5" [TOUCH] "a `touch` does not revive an entry that a concurrent `delete` removes";
    touch_and_keep: "S-1" [TOUCH, DEADLINES] "a `set` with `Expiry::Keep` does not undo the new deadline of a concurrent `touch`";
    touch_and_increment: "C-1" [TOUCH, DEADLINES, COUNTERS] "an `increment` does not undo the new deadline of a concurrent `touch`";
    each_entry_is_previous_once: "S-2" [PREVIOUS, Need::KeepsAll] "concurrent sets of a key with `return_previous` all return different entries";
    one_of_twenty_takers_gets_it: "D-1" [PREVIOUS, Need::KeepsAll] "of 20 concurrent deletes with `return_previous`, exactly one returns the entry";
    refusals_show_the_refusing_entry: "S-2" [CONDITIONS, Need::KeepsAll] "a `set` with the condition Absent that is refused shows an entry, even while other clients create and delete the key";
    errors_of_increments: "E-1" [COUNTERS] "the error of a failed `increment` has the operation, the backend and the key";
}

/// A call of the cases in which some of many concurrent calls fail.
enum Call {
    /// A set that must succeed.
    Set(Key),
    /// An increment that must succeed.
    Increment(Key),
    /// A call that must fail as `Invalid`.
    Invalid(Invalid),
}

enum Invalid {
    /// An increment of a value that is not a number.
    Increment(Key),
    /// A set of a value over the limit.
    Oversized(Key, Bytes),
}

/// Makes all calls concurrently, and fails unless each has its own result.
async fn make_all(cx: &Context, calls: Vec<Call>) -> Verdict {
    let results = join_all(calls.iter().map(|call| async move {
        let options = SetOptions::default();
        match call {
            Call::Set(key) => cx.store().set(key, "v".into(), &options).await.map(|_| ()),
            Call::Increment(key) | Call::Invalid(Invalid::Increment(key)) => {
                cx.store().increment(key, 1, &IncrementOptions::default()).await.map(|_| ())
            }
            Call::Invalid(Invalid::Oversized(key, value)) => {
                cx.store().set(key, value.clone(), &options).await.map(|_| ())
            }
        }
    }))
    .await;
    for (call, result) in calls.iter().zip(results) {
        match (call, result) {
            (Call::Set(key), Ok(())) => cx.expect(key, "v").await?,
            (Call::Increment(key), Ok(())) => cx.expect(key, "1").await?,
            (Call::Invalid(_), Err(error)) if error.kind() == ErrorKind::Invalid => {}
            (Call::Invalid(_), other) => {
                return Err(Failure::new(format!("expected a call to fail as Invalid, but it returned {other:?}")));
            }
            (Call::Set(key) | Call::Increment(key), Err(error)) => {
                return Err(Failure::new(format!("a valid write of {key} failed during invalid calls: {error}")));
            }
        }
    }
    Ok(())
}

async fn of_invalid_increments(cx: Context) -> Verdict {
    cx.set(["text"], "no number").await?;
    for round in 0..5 {
        let own = |name: &str, at: i32| key([name, &round.to_string(), &at.to_string()]);
        let calls = (0..40).map(|at| match at % 4 {
            0 => Call::Invalid(Invalid::Increment(key(["text"]))),
            1 => Call::Increment(own("number", at)),
            _ => Call::Set(own("set", at)),
        });
        make_all(&cx, calls.collect()).await?;
    }
    cx.expect(["text"], "no number").await
}

async fn of_oversized_values(cx: Context) -> Verdict {
    let Some(oversized) = over_the_limit(&cx) else { return Ok(()) };
    for round in 0..3 {
        let own = |at: i32| key(["set", &round.to_string(), &at.to_string()]);
        let calls = (0..20).map(|at| match at % 4 {
            0 => Call::Invalid(Invalid::Oversized(key(["large"]), oversized.clone())),
            _ => Call::Set(own(at)),
        });
        make_all(&cx, calls.collect()).await?;
    }
    cx.expect_absent(["large"]).await
}

async fn of_refused_sets(cx: Context) -> Verdict {
    cx.set(["there"], "old").await?;
    for round in 0..5 {
        let own = |at: i32| key(["set", &round.to_string(), &at.to_string()]);
        let there = key(["there"]);
        let stored = join_all((0..40).map(|at| {
            let (cx, there) = (&cx, &there);
            async move {
                if at % 4 > 0 {
                    return cx.set(own(at), "v").await.map(|_| true);
                }
                let options = SetOptions::default().with_when(When::Absent);
                Ok(cx.store().set(there, "new".into(), &options).await?.is_stored())
            }
        }))
        .await;
        for (at, stored) in (0..).zip(stored) {
            ensure_eq!(stored?, at % 4 > 0, "the outcome of concurrent set {at}: true if it was stored");
            if at % 4 > 0 {
                cx.expect(own(at), "v").await?;
            }
        }
    }
    cx.expect(["there"], "old").await
}

async fn touch_and_delete(cx: Context) -> Verdict {
    let own = key(["k"]);
    for round in 0..ROUNDS {
        cx.set(&own, "v").await?;
        clients(&cx, 2, |cx, client| {
            let own = own.clone();
            async move {
                // In every round, another caller begins second.
                if client == round % 2 {
                    tokio::task::yield_now().await;
                }
                if client == 0 {
                    cx.store().touch(&own, NewExpiry::After(LONG)).await?;
                } else {
                    ensure!(cx.delete(&own).await?, "`delete` of a live key reported that it removed nothing");
                }
                Ok(())
            }
        })
        .await?;
        cx.expect_absent(&own).await?;
    }
    Ok(())
}

/// Runs a write and a `touch` to Never concurrently, and fails if the key then has a deadline.
async fn expect_never_after(cx: &Context, value: &'static str, write: fn(Context, Key) -> Writing) -> Verdict {
    let own = key(["k"]);
    for _ in 0..ROUNDS {
        cx.set_ttl(&own, value, LONG).await?;
        clients(cx, 2, |cx, client| {
            let own = own.clone();
            async move {
                if client == 0 {
                    return write(cx, own).await;
                }
                tokio::task::yield_now().await;
                let found = cx.store().touch(&own, NewExpiry::Never).await?;
                ensure!(found, "`touch` returned false for a live entry");
                Ok(())
            }
        })
        .await?;
        // If the write comes first, it keeps the first deadline and the touch removes it. If the touch comes first, the
        // write finds no deadline to keep.
        ensure_eq!(cx.entry(&own).await?.expires, Expires::Never, "the deadline after a `touch` to Never");
    }
    Ok(())
}

type Writing = kv_core::BoxFuture<'static, Verdict>;

async fn touch_and_keep(cx: Context) -> Verdict {
    expect_never_after(&cx, "v", |cx, own| {
        Box::pin(async move {
            cx.set_with(own, "new", SetOptions::default().with_expiry(Expiry::Keep)).await?;
            Ok(())
        })
    })
    .await
}

async fn touch_and_increment(cx: Context) -> Verdict {
    expect_never_after(&cx, "1", |cx, own| {
        Box::pin(async move {
            cx.store().increment(&own, 1, &IncrementOptions::default()).await?;
            Ok(())
        })
    })
    .await
}

async fn each_entry_is_previous_once(cx: Context) -> Verdict {
    const CLIENTS: usize = 8;
    const WRITES: usize = 20;
    let own = key(["k"]);
    cx.set(&own, "first").await?;
    let returned = clients(&cx, CLIENTS, |cx, client| {
        let own = own.clone();
        async move {
            let mut returned = Vec::new();
            for write in 0..WRITES {
                let options = SetOptions::default().with_previous();
                match cx.store().set(&own, format!("{client}.{write}").into(), &options).await? {
                    SetOutcome::Stored { previous: Some(previous), .. } => returned.push(previous.value),
                    other => {
                        return Err(Failure::new(format!("`set` over a live entry returned no previous: {other:?}")));
                    }
                }
            }
            Ok(returned)
        }
    })
    .await?;
    let mut times: BTreeMap<Bytes, usize> = BTreeMap::new();
    for value in returned.into_iter().flatten().chain(cx.get(&own).await?) {
        *times.entry(value).or_default() += 1;
    }
    let repeated = times.iter().find(|(_, times)| **times > 1).map(|(value, _)| value);
    ensure_eq!(repeated, None, "the value that two sets returned as the previous value");
    ensure_eq!(times.len(), CLIENTS * WRITES + 1, "the number of values that sets returned, with the last one");
    Ok(())
}

async fn one_of_twenty_takers_gets_it(cx: Context) -> Verdict {
    let own = key(["k"]);
    for _ in 0..10 {
        cx.set(&own, "v").await?;
        let taken = clients(&cx, 20, |cx, _| {
            let own = own.clone();
            async move {
                let outcome = cx.store().delete(&own, &DeleteOptions::default().with_previous()).await?;
                Ok(usize::from(matches!(outcome, DeleteOutcome::Deleted { previous: Some(_) })))
            }
        })
        .await?;
        ensure_eq!(taken.into_iter().sum::<usize>(), 1, "the number of deletes that returned the entry");
    }
    Ok(())
}

async fn refusals_show_the_refusing_entry(cx: Context) -> Verdict {
    let own = key(["k"]);
    clients(&cx, 4, |cx, client| {
        let own = own.clone();
        async move {
            for _ in 0..100 {
                if client % 2 == 0 {
                    cx.delete(&own).await?;
                    tokio::task::yield_now().await;
                    continue;
                }
                let options = SetOptions::default().with_when(When::Absent);
                if let SetOutcome::Refused { current: None } = cx.store().set(&own, "v".into(), &options).await? {
                    return Err(Failure::new("`set` with `When::Absent` was refused, but the refusal shows no entry"));
                }
            }
            Ok(())
        }
    })
    .await?;
    Ok(())
}

async fn errors_of_increments(cx: Context) -> Verdict {
    let own = key(["text"]);
    cx.set(&own, "no number").await?;
    let Err(error) = cx.store().increment(&own, 1, &IncrementOptions::default()).await else {
        return Err(Failure::new("`increment` of a value that is not a number succeeded"));
    };
    ensure_eq!(error.key(), Some(&own), "the key of the error");
    ensure_eq!(error.operation(), Some(kv_core::Operation::Increment), "the operation of the error");
    ensure!(error.backend().is_some(), "the error has no backend");
    Ok(())
}
