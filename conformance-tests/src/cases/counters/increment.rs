//! `increment`.

use std::collections::BTreeSet;
use std::time::Duration;

use kv_core::{Capability, ErrorKind, Expiry, IncrementOptions, KvStore, SetOptions, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const COUNTERS: Need = Need::Has(Capability::Counters);
const CONDITIONS: Need = Need::Has(Capability::Conditions);

const SOON: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(3_600);

cases! { counters, Counters:
    a_missing_counter_is_created: "C-1" [COUNTERS] "the first `increment` creates a counter whose number is the amount";
    a_counter_is_created_at_zero: "C-1" [COUNTERS] "`increment` by zero creates a counter of zero";
    adds_and_subtracts: "C-1" [COUNTERS] "`increment` returns the sum, even if the sum is negative";
    get_shows_decimal_text: "C-1" [COUNTERS] "`get` returns the number as decimal text";
    goes_on_from_a_set: "C-1" [COUNTERS] "`increment` continues from decimal text that `set` wrote";
    starts_anew_after_a_delete: "C-1" [COUNTERS] "after `delete`, `increment` creates a counter whose number is the amount";
    starts_anew_after_expiry: "T-1" [COUNTERS] "after expiry, `increment` creates a counter whose number is the amount, without a deadline";
    exact_beyond_doubles: "C-1" [COUNTERS] "numbers around 2^53, of either sign, are exact";
    exact_at_the_ends: "C-1" [COUNTERS] "the smallest and the largest i64 can be reached and left";
    extreme_amounts: "C-1" [COUNTERS] "the smallest and the largest i64 work as amounts";
    overflow_is_invalid: "C-1" [COUNTERS] "an `increment` that overflows i64 is Invalid and changes nothing";
    text_is_no_number: "C-1" [COUNTERS] "`increment` of a value that is not an i64 is Invalid and changes nothing";
    keeps_the_deadline: "C-1" [COUNTERS] "`increment` keeps the deadline, whatever expiry its options have";
    keeps_having_no_deadline: "C-1" [COUNTERS] "`increment` with an expiry leaves an existing permanent counter permanent";
    expiry_is_for_creation: "C-1" [COUNTERS] "an `increment` that creates the counter sets its expiry";
    keep_is_invalid: "C-1" [COUNTERS] "`increment` with `Expiry::Keep` is Invalid and changes nothing";
    conditions_see_the_number: "C-1" [COUNTERS, CONDITIONS] "a value condition compares with the decimal text of a counter";
    a_thousand_at_once: "C-1" [COUNTERS, Need::KeepsAll] "1,000 concurrent increments return each number once";
    up_and_down_at_once: "C-1" [COUNTERS, Need::KeepsAll] "concurrent increments of different amounts add up";
    counters_do_not_mix: "C-1" [COUNTERS, Need::KeepsAll] "concurrent increments of different counters do not mix";
}

async fn add(cx: &Context, by: i64) -> Result<i64, Failure> {
    Ok(cx.store().increment(&key(["n"]), by, &IncrementOptions::default()).await?)
}

async fn add_for(cx: &Context, by: i64, ttl: Duration) -> Result<i64, Failure> {
    let options = IncrementOptions::default().with_expiry(Expiry::After(ttl));
    Ok(cx.store().increment(&key(["n"]), by, &options).await?)
}

/// Fails unless the `increment` is Invalid and leaves value, version and deadline unchanged.
async fn is_invalid(cx: &Context, by: i64, options: IncrementOptions) -> Verdict {
    let before = cx.store().get(&key(["n"])).await?;
    match cx.store().increment(&key(["n"]), by, &options).await {
        Err(error) if error.kind() == ErrorKind::Invalid => {}
        other => {
            return Err(Failure::new(format!(
                "expected `increment` by {by} over {before:?} to fail as Invalid, but it returned {other:?}"
            )));
        }
    }
    ensure_eq!(
        cx.store().get(&key(["n"])).await?,
        before,
        "the entry that `get` returned after an invalid `increment`"
    );
    Ok(())
}

async fn a_missing_counter_is_created(cx: Context) -> Verdict {
    ensure_eq!(add(&cx, 5).await?, 5, "the number that `increment` of a new counter by 5 returned");
    cx.expect(["n"], "5").await
}

async fn a_counter_is_created_at_zero(cx: Context) -> Verdict {
    ensure_eq!(add(&cx, 0).await?, 0, "the number that `increment` of a new counter by 0 returned");
    cx.expect(["n"], "0").await
}

async fn adds_and_subtracts(cx: Context) -> Verdict {
    for (by, sum) in [(3, 3), (4, 7), (-10, -3), (-1, -4), (0, -4), (4, 0)] {
        ensure_eq!(add(&cx, by).await?, sum, "the number that `increment` by {by} returned");
    }
    Ok(())
}

async fn get_shows_decimal_text(cx: Context) -> Verdict {
    for (by, text) in [(1_000_000, "1000000"), (-1_000_001, "-1"), (1, "0")] {
        add(&cx, by).await?;
        cx.expect(["n"], text).await?;
    }
    Ok(())
}

async fn goes_on_from_a_set(cx: Context) -> Verdict {
    for (text, by, sum) in
        [("10", 5, 15), ("-10", 3, -7), ("0", -1, -1), ("9007199254740993", 1, 9_007_199_254_740_994)]
    {
        cx.set(["n"], text).await?;
        ensure_eq!(add(&cx, by).await?, sum, "the number that `increment` of {text} by {by} returned");
        cx.expect(["n"], sum.to_string()).await?;
    }
    Ok(())
}

async fn starts_anew_after_a_delete(cx: Context) -> Verdict {
    add(&cx, 7).await?;
    ensure!(cx.delete(["n"]).await?, "`delete` of a counter reported that it removed nothing");
    ensure_eq!(add(&cx, 2).await?, 2, "the number that `increment` by 2 returned after `delete`");
    Ok(())
}

async fn starts_anew_after_expiry(cx: Context) -> Verdict {
    add_for(&cx, 7, SOON).await?;
    cx.advance_past(SOON).await;
    ensure_eq!(add(&cx, 2).await?, 2, "the number that `increment` by 2 of an expired counter returned");
    cx.advance_past(SOON).await;
    cx.expect(["n"], "2").await
}

async fn exact_beyond_doubles(cx: Context) -> Verdict {
    const EDGE: i64 = 1 << 53;
    for (start, by) in [(EDGE - 1, 1), (EDGE, 1), (EDGE, 2), (EDGE + 1, 1), (EDGE + 1, -1), (EDGE + 2, -3), (1, EDGE)] {
        for sign in [1, -1] {
            cx.delete(["n"]).await?;
            add(&cx, sign * start).await?;
            let sum = sign * (start + by);
            ensure_eq!(add(&cx, sign * by).await?, sum, "the number that `increment` of {} returned", sign * start);
            cx.expect(["n"], (sign * (start + by)).to_string()).await?;
        }
    }
    Ok(())
}

async fn exact_at_the_ends(cx: Context) -> Verdict {
    for (end, inward) in [(i64::MAX, -1), (i64::MIN, 1)] {
        cx.set(["n"], (end + inward).to_string()).await?;
        ensure_eq!(
            add(&cx, -inward).await?,
            end,
            "the number that `increment` to the smallest or largest i64 returned"
        );
        cx.expect(["n"], end.to_string()).await?;
        ensure_eq!(
            add(&cx, inward).await?,
            end + inward,
            "the number that `increment` from the smallest or largest i64 returned"
        );
    }
    Ok(())
}

async fn extreme_amounts(cx: Context) -> Verdict {
    for by in [i64::MAX, i64::MIN] {
        ensure_eq!(add(&cx, by).await?, by, "the number that `increment` of a new counter by {by} returned");
        cx.expect(["n"], by.to_string()).await?;
        cx.delete(["n"]).await?;
    }
    cx.set(["n"], i64::MAX.to_string()).await?;
    ensure_eq!(
        add(&cx, i64::MIN).await?,
        -1,
        "the number that `increment` of the largest i64 by the smallest one returned"
    );
    Ok(())
}

async fn overflow_is_invalid(cx: Context) -> Verdict {
    for (start, by) in [
        (i64::MAX, 1),
        (i64::MAX, i64::MAX),
        (1, i64::MAX),
        (i64::MIN, -1),
        (i64::MIN, i64::MIN),
        (-1, i64::MIN),
        (i64::MAX - 5, 6),
    ] {
        cx.set_ttl(["n"], start.to_string(), LONG).await?;
        is_invalid(&cx, by, IncrementOptions::default()).await?;
    }
    Ok(())
}

async fn text_is_no_number(cx: Context) -> Verdict {
    let texts = [
        "", "ten", "1.5", "1.0", "1e3", "0x10", "+5", "007", "-0", "00", "12 ", " 12", "1 2", "-", "--1", "1\0",
        "null", "\"1\"", "٣",
    ];
    let beyond = ["9223372036854775808", "-9223372036854775809", "100000000000000000000000"];
    for text in texts.into_iter().chain(beyond) {
        cx.set_ttl(["n"], text, LONG).await?;
        is_invalid(&cx, 1, IncrementOptions::default()).await?;
    }
    cx.set(["n"], vec![0xff, 0, 1, 0, 0, 0, 0, 0]).await?;
    is_invalid(&cx, 0, IncrementOptions::default()).await
}

async fn keeps_the_deadline(cx: Context) -> Verdict {
    add_for(&cx, 1, SOON).await?;
    let expires = cx.store().get(&key(["n"])).await?.map(|entry| entry.expires);
    add(&cx, 1).await?;
    add_for(&cx, 1, LONG).await?;
    let still = cx.store().get(&key(["n"])).await?;
    // On a slow machine the counter may have expired between two increments.
    let Some(still) = still.filter(|still| still.value == "3") else { return Ok(()) };
    ensure_eq!(Some(still.expires), expires, "the deadline that `get` returned after two more increments");
    cx.advance_past(SOON).await;
    cx.expect_absent(["n"]).await
}

async fn keeps_having_no_deadline(cx: Context) -> Verdict {
    add(&cx, 1).await?;
    add_for(&cx, 1, SOON).await?;
    add_for(&cx, 1, Duration::ZERO).await?;
    cx.advance_past(SOON).await;
    cx.expect(["n"], "3").await
}

async fn expiry_is_for_creation(cx: Context) -> Verdict {
    add_for(&cx, 1, SOON).await?;
    cx.advance_past(SOON).await;
    cx.expect_absent(["n"]).await?;
    ensure_eq!(
        add_for(&cx, 4, Duration::ZERO).await?,
        4,
        "the number that `increment` with a time to live of zero returned"
    );
    cx.expect_absent(["n"]).await
}

async fn keep_is_invalid(cx: Context) -> Verdict {
    let keep = IncrementOptions::default().with_expiry(Expiry::Keep);
    is_invalid(&cx, 1, keep.clone()).await?;
    cx.expect_absent(["n"]).await?;
    add(&cx, 1).await?;
    is_invalid(&cx, 1, keep).await
}

async fn conditions_see_the_number(cx: Context) -> Verdict {
    add(&cx, 41).await?;
    add(&cx, 1).await?;
    cx.set_with(["n"], "-1", SetOptions::default().with_when(When::Value("42".into()))).await?;
    ensure_eq!(add(&cx, 1).await?, 0, "the number that `increment` returned after a conditional `set`");
    Ok(())
}

async fn a_thousand_at_once(cx: Context) -> Verdict {
    let reached = clients(&cx, 1_000, |cx, _| async move { add(&cx, 1).await }).await?;
    let expected: BTreeSet<i64> = (1..=1_000).collect();
    ensure_eq!(
        reached.into_iter().collect::<BTreeSet<_>>(),
        expected,
        "the numbers that concurrent increments returned"
    );
    cx.expect(["n"], "1000").await
}

async fn up_and_down_at_once(cx: Context) -> Verdict {
    clients(&cx, 16, |cx, client| async move {
        for _ in 0..50 {
            add(&cx, if client % 2 == 0 { 3 } else { -2 }).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    cx.expect(["n"], "400").await
}

async fn counters_do_not_mix(cx: Context) -> Verdict {
    clients(&cx, 16, |cx, client| async move {
        let own = key(["n", &(client % 4).to_string()]);
        for _ in 0..25 {
            cx.store().increment(&own, 1, &IncrementOptions::default()).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    for counter in 0..4 {
        cx.expect(["n", &counter.to_string()], "100").await?;
    }
    Ok(())
}
