//! `set` with a condition: each kind of condition for an absent key, a live entry and an expired entry.

use std::time::Duration;

use kv_core::{Capability, Entry, Expiry, Key, KvStore, SetOptions, SetOutcome, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const VERSIONS: Need = Need::Has(Capability::Versions);
const PREVIOUS: Need = Need::Has(Capability::Previous);

const SOON: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(3_600);

cases! { conditions, Conditions:
    absent_stores_over_nothing: "S-2" [CONDITIONS] "`set` with the condition Absent is stored if there is no entry";
    absent_stores_over_expired: "T-1" [CONDITIONS] "`set` with the condition Absent is stored if the entry has expired";
    absent_is_refused_over_live: "S-2" [CONDITIONS] "`set` with the condition Absent is refused if the entry is live";
    absent_is_refused_over_an_empty_value: "V-1" [CONDITIONS] "`set` with the condition Absent is refused if the entry has an empty value";
    absent_stores_after_a_delete: "S-2" [CONDITIONS] "`set` with the condition Absent is stored again after `delete`";
    present_stores_over_live: "S-2" [CONDITIONS] "`set` with the condition Present is stored if the entry is live";
    present_is_refused_over_nothing: "S-2" [CONDITIONS] "`set` with the condition Present is refused if there is no entry";
    present_is_refused_over_expired: "T-1" [CONDITIONS] "`set` with the condition Present is refused if the entry has expired";
    version_stores_over_its_own: "S-2" [CONDITIONS, VERSIONS] "`set` with a condition on the current version is stored once: the version is outdated afterwards";
    version_is_refused_over_a_newer: "S-2" [CONDITIONS, VERSIONS] "`set` with a condition on the version of an earlier write is refused";
    version_is_refused_over_nothing: "S-2" [CONDITIONS, VERSIONS] "`set` with a condition on the version of a deleted entry is refused";
    version_is_refused_over_expired: "T-1" [CONDITIONS, VERSIONS] "`set` with a condition on the version of an expired entry is refused";
    value_stores_over_the_same: "S-2" [CONDITIONS] "`set` with a condition on the current value is stored";
    value_is_refused_over_another: "S-2" [CONDITIONS] "`set` with a condition on another value is refused";
    value_is_refused_over_nothing: "S-2" [CONDITIONS] "`set` with a condition on any value, including the empty value, is refused if there is no entry";
    value_is_refused_over_expired: "T-1" [CONDITIONS] "`set` with a condition on the value of an expired entry is refused";
    value_is_compared_byte_by_byte: "S-2" [CONDITIONS] "a value condition compares bytes, not numbers, JSON, text or prefixes";
    values_of_any_bytes_are_compared: "S-2" [CONDITIONS] "a value condition works with empty, binary and large values";
    values_swap_four_ways: "S-2" [CONDITIONS] "conditions on values create, replace and delete an entry, each only from the expected state";
    refused_set_leaves_the_deadline: "S-2" [CONDITIONS] "a refused `set` leaves the deadline unchanged";
    stored_set_replaces_the_deadline: "S-1" [CONDITIONS] "a conditional `set` replaces the deadline, or removes it if the `set` has none";
    stored_set_keeps_the_deadline: "S-1" [CONDITIONS] "a conditional `set` with `Expiry::Keep` keeps the deadline";
    zero_ttl_is_judged_and_stored: "T-3" [CONDITIONS] "a `set` with a time to live of zero whose condition holds reports stored, and the key is absent";
    zero_ttl_is_judged_and_refused: "T-3" [CONDITIONS] "a `set` with a time to live of zero whose condition fails is refused and changes nothing";
    deadline_in_the_past_is_judged: "T-3" [CONDITIONS] "the condition of a `set` with a deadline in the past is checked as usual";
    previous_is_what_was_replaced: "S-2" [PREVIOUS] "`set` with `return_previous` returns the entry that it replaced, and without it returns none";
    previous_of_nothing_is_none: "S-2" [PREVIOUS] "`set` of an absent key or an expired entry returns no previous entry";
    previous_comes_with_a_condition: "S-2" [PREVIOUS, CONDITIONS] "a conditional `set` returns the entry that it replaced, or the current entry if the `set` is refused";
}

fn k() -> Key {
    key(["k"])
}

async fn current(cx: &Context) -> Result<Option<Entry>, Failure> {
    Ok(cx.store().get(&k()).await?)
}

async fn try_set(cx: &Context, value: &'static str, options: SetOptions) -> Result<SetOutcome, Failure> {
    Ok(cx.store().set(&k(), value.into(), &options).await?)
}

/// Fails unless a `set` with the condition is stored and its value can be read.
async fn expect_stored(cx: &Context, when: When) -> Verdict {
    cx.set_with(["k"], "stored", SetOptions::default().with_when(when)).await?;
    cx.expect(["k"], "stored").await
}

/// Fails unless a `set` with the options is refused, returns the current entry, and changes nothing.
async fn expect_refused_with(cx: &Context, options: SetOptions) -> Verdict {
    let before = current(cx).await?;
    let outcome = try_set(cx, "must not be stored", options.clone()).await?;
    ensure_eq!(outcome, SetOutcome::Refused { current: before.clone() }, "the outcome of `set` with {options:?}");
    ensure_eq!(current(cx).await?, before, "the entry that `get` returned after a refused `set`");
    Ok(())
}

async fn expect_refused(cx: &Context, when: When) -> Verdict {
    expect_refused_with(cx, SetOptions::default().with_when(when)).await
}

/// Leaves an expired entry with the value `v`.
async fn write_expired(cx: &Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    cx.advance_past(SOON).await;
    Ok(())
}

async fn absent_stores_over_nothing(cx: Context) -> Verdict {
    expect_stored(&cx, When::Absent).await
}

async fn absent_stores_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_stored(&cx, When::Absent).await
}

async fn absent_is_refused_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused(&cx, When::Absent).await
}

async fn absent_is_refused_over_an_empty_value(cx: Context) -> Verdict {
    cx.set(["k"], "").await?;
    expect_refused(&cx, When::Absent).await
}

async fn absent_stores_after_a_delete(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused(&cx, When::Absent).await?;
    cx.delete(["k"]).await?;
    expect_stored(&cx, When::Absent).await
}

async fn present_stores_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_stored(&cx, When::Present).await
}

async fn present_is_refused_over_nothing(cx: Context) -> Verdict {
    expect_refused(&cx, When::Present).await?;
    cx.expect_absent(["k"]).await
}

async fn present_is_refused_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_refused(&cx, When::Present).await?;
    cx.expect_absent(["k"]).await
}

async fn version_stores_over_its_own(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    expect_stored(&cx, When::Version(version)).await?;
    expect_refused(&cx, When::Version(version)).await
}

async fn version_is_refused_over_a_newer(cx: Context) -> Verdict {
    let old = cx.set_versioned(["k"], "v").await?;
    cx.set(["k"], "w").await?;
    expect_refused(&cx, When::Version(old)).await
}

async fn version_is_refused_over_nothing(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    cx.delete(["k"]).await?;
    expect_refused(&cx, When::Version(version)).await?;
    cx.expect_absent(["k"]).await
}

async fn version_is_refused_over_expired(cx: Context) -> Verdict {
    let version = cx.set_ttl(["k"], "v", SOON).await?;
    let version = version.ok_or_else(|| Failure::new("the store declares versions, but `set` returned none"))?;
    cx.advance_past(SOON).await;
    expect_refused(&cx, When::Version(version)).await?;
    cx.expect_absent(["k"]).await
}

async fn value_stores_over_the_same(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_stored(&cx, When::Value("v".into())).await
}

async fn value_is_refused_over_another(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused(&cx, When::Value("w".into())).await
}

async fn value_is_refused_over_nothing(cx: Context) -> Verdict {
    expect_refused(&cx, When::Value("v".into())).await?;
    expect_refused(&cx, When::Value("".into())).await?;
    cx.expect_absent(["k"]).await
}

async fn value_is_refused_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_refused(&cx, When::Value("v".into())).await?;
    cx.expect_absent(["k"]).await
}

async fn value_is_compared_byte_by_byte(cx: Context) -> Verdict {
    for (stored, other) in [
        ("1", "1.0"),
        ("1", "01"),
        ("1", "\"1\""),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        (r#"{"a":1}"#, r#"{"a": 1}"#),
        ("null", ""),
        ("v", "v "),
        ("v", "V"),
        ("value", "val"),
        ("v", "v\0"),
        ("caf\u{e9}", "cafe\u{301}"),
    ] {
        cx.set(["k"], stored).await?;
        expect_refused(&cx, When::Value(other.into())).await?;
        expect_stored(&cx, When::Value(stored.into())).await?;
    }
    Ok(())
}

async fn values_of_any_bytes_are_compared(cx: Context) -> Verdict {
    for value in [Vec::new(), vec![0, 255, 0xc3, b'\n', 0], vec![7; 1 << 20]] {
        cx.set(["k"], value.clone()).await?;
        expect_refused(&cx, When::Value([&value, &b"x"[..]].concat().into())).await?;
        expect_stored(&cx, When::Value(value.into())).await?;
    }
    Ok(())
}

async fn values_swap_four_ways(cx: Context) -> Verdict {
    let swap = |from: &'static str| SetOptions::default().with_when(When::Value(from.into()));
    cx.set_with(["k"], "one", SetOptions::default().with_when(When::Absent)).await?;
    cx.set_with(["k"], "two", swap("one")).await?;
    expect_refused_with(&cx, swap("one")).await?;
    let options = kv_core::DeleteOptions::default().with_when(When::Value("two".into()));
    ensure!(cx.store().delete(&k(), &options).await?.is_deleted(), "`delete` with a true condition was refused");
    cx.expect_absent(["k"]).await?;
    expect_refused_with(&cx, swap("two")).await
}

async fn refused_set_leaves_the_deadline(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    for expiry in [Expiry::Never, Expiry::After(LONG), Expiry::After(Duration::ZERO)] {
        // The outcome is ignored, because on a slow machine the entry may have expired.
        let _ = try_set(&cx, "w", SetOptions::default().with_when(When::Value("x".into())).with_expiry(expiry)).await?;
    }
    cx.set(["never"], "v").await?;
    let shorter = SetOptions::default().with_when(When::Absent).with_expiry(Expiry::After(SOON));
    let outcome = cx.store().set(&key(["never"]), "w".into(), &shorter).await?;
    ensure!(!outcome.is_stored(), "`set` with `When::Absent` was stored over a live entry, but it should be refused");
    cx.advance_past(SOON).await;
    cx.expect_absent(["k"]).await?;
    cx.expect(["never"], "v").await
}

async fn stored_set_replaces_the_deadline(cx: Context) -> Verdict {
    let over = |value: &'static str| SetOptions::default().with_when(When::Value(value.into()));
    cx.set(["shorter"], "v").await?;
    cx.set_with(["shorter"], "w", over("v").with_expiry(Expiry::After(SOON))).await?;
    cx.set_ttl(["longer"], "v", SOON * 4).await?;
    cx.set_with(["longer"], "w", over("v").with_expiry(Expiry::After(LONG))).await?;
    cx.set_ttl(["never"], "v", SOON * 4).await?;
    cx.set_with(["never"], "w", over("v")).await?;
    cx.advance_past(SOON * 4).await;
    cx.expect_absent(["shorter"]).await?;
    cx.expect(["longer"], "w").await?;
    cx.expect(["never"], "w").await
}

async fn stored_set_keeps_the_deadline(cx: Context) -> Verdict {
    let over = |value: &'static str| SetOptions::default().with_when(When::Value(value.into()));
    cx.set_ttl(["k"], "v", SOON * 2).await?;
    cx.set_with(["k"], "w", over("v").with_expiry(Expiry::Keep)).await?;
    cx.advance_past(SOON * 2).await;
    cx.expect_absent(["k"]).await
}

async fn zero_ttl_is_judged_and_stored(cx: Context) -> Verdict {
    let at_once = SetOptions::default().with_expiry(Expiry::After(Duration::ZERO));
    for (over, when) in [(None, When::Absent), (Some("v"), When::Present), (Some("v"), When::Value("v".into()))] {
        if let Some(value) = over {
            cx.set(["k"], value).await?;
        }
        let outcome = try_set(&cx, "w", at_once.clone().with_when(when)).await?;
        ensure!(
            outcome.is_stored(),
            "expected `set` with a time to live of zero over {over:?} to be stored, but it returned {outcome:?}"
        );
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn zero_ttl_is_judged_and_refused(cx: Context) -> Verdict {
    let at_once = SetOptions::default().with_expiry(Expiry::After(Duration::ZERO));
    expect_refused_with(&cx, at_once.clone().with_when(When::Present)).await?;
    cx.set(["k"], "v").await?;
    for when in [When::Absent, When::Value("w".into())] {
        expect_refused_with(&cx, at_once.clone().with_when(when)).await?;
    }
    cx.expect(["k"], "v").await
}

async fn deadline_in_the_past_is_judged(cx: Context) -> Verdict {
    let past = SetOptions::default().with_expiry(Expiry::At(cx.now() - LONG));
    cx.set(["k"], "v").await?;
    expect_refused_with(&cx, past.clone().with_when(When::Absent)).await?;
    let outcome = try_set(&cx, "w", past.with_when(When::Present)).await?;
    ensure!(
        outcome.is_stored(),
        "expected `set` with `When::Present` and a deadline in the past to be stored, but it returned {outcome:?}"
    );
    cx.expect_absent(["k"]).await
}

async fn previous_is_what_was_replaced(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", LONG).await?;
    let before = current(&cx).await?;
    match try_set(&cx, "w", SetOptions::default().with_previous()).await? {
        SetOutcome::Stored { previous, .. } => {
            ensure_eq!(previous, before, "the previous entry that `set` returned");
        }
        outcome @ SetOutcome::Refused { .. } => {
            return Err(Failure::new(format!(
                "expected `set` without a condition to be stored, but it returned {outcome:?}"
            )));
        }
    }
    let outcome = try_set(&cx, "x", SetOptions::default()).await?;
    ensure!(
        matches!(outcome, SetOutcome::Stored { previous: None, .. }),
        "expected `set` to return no previous entry, since it did not ask for one, but it returned {outcome:?}"
    );
    Ok(())
}

async fn previous_of_nothing_is_none(cx: Context) -> Verdict {
    let with_previous = SetOptions::default().with_previous();
    let outcome = try_set(&cx, "v", with_previous.clone().with_expiry(Expiry::After(SOON))).await?;
    ensure!(
        matches!(outcome, SetOutcome::Stored { previous: None, .. }),
        "expected `set` of a new key to return no previous entry, but it returned {outcome:?}"
    );
    cx.advance_past(SOON).await;
    let outcome = try_set(&cx, "v", with_previous).await?;
    ensure!(
        matches!(outcome, SetOutcome::Stored { previous: None, .. }),
        "expected `set` over an expired entry to return no previous entry, but it returned {outcome:?}"
    );
    Ok(())
}

async fn previous_comes_with_a_condition(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused_with(&cx, SetOptions::default().with_when(When::Absent).with_previous()).await?;
    let before = current(&cx).await?;
    match try_set(&cx, "w", SetOptions::default().with_when(When::Value("v".into())).with_previous()).await? {
        SetOutcome::Stored { previous, .. } => {
            ensure_eq!(previous, before, "the previous entry that `set` conditional on the current value returned");
        }
        outcome @ SetOutcome::Refused { .. } => {
            return Err(Failure::new(format!(
                "expected `set` conditional on the current value to be stored, but it returned {outcome:?}"
            )));
        }
    }
    cx.expect(["k"], "w").await
}
