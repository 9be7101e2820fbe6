//! `delete` with a condition: each kind of condition for an absent key, a live entry and an expired entry.

use std::time::Duration;

use kv_core::{Capability, DeleteOptions, DeleteOutcome, Key, KvStore, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const VERSIONS: Need = Need::Has(Capability::Versions);
const PREVIOUS: Need = Need::Has(Capability::Previous);

const SOON: Duration = Duration::from_millis(400);

cases! { conditional_deletes, Conditions:
    absent_is_missing_over_nothing: "D-1" [CONDITIONS] "`delete` of an absent key with the condition Absent removes nothing and is not refused";
    absent_is_refused_over_live: "D-1" [CONDITIONS] "`delete` of a live entry with the condition Absent is refused";
    absent_is_missing_over_expired: "T-1" [CONDITIONS] "`delete` of an expired entry with the condition Absent removes nothing and is not refused";
    present_deletes_over_live: "D-1" [CONDITIONS] "`delete` of a live entry with the condition Present removes the entry";
    present_is_refused_over_nothing: "D-1" [CONDITIONS] "`delete` of an absent key with the condition Present is refused";
    present_is_refused_over_expired: "T-1" [CONDITIONS] "`delete` of an expired entry with the condition Present is refused";
    version_deletes_its_own: "D-1" [CONDITIONS, VERSIONS] "`delete` with a condition on the current version removes the entry";
    version_is_refused_over_a_newer: "D-1" [CONDITIONS, VERSIONS] "`delete` with a condition on the version of an earlier write is refused";
    version_is_refused_over_nothing: "D-1" [CONDITIONS, VERSIONS] "`delete` with a condition on the version of a deleted entry is refused";
    version_is_refused_over_expired: "T-1" [CONDITIONS, VERSIONS] "`delete` with a condition on the version of an expired entry is refused";
    value_deletes_the_same: "D-1" [CONDITIONS] "`delete` with a condition on the current value removes the entry";
    value_is_refused_over_another: "D-1" [CONDITIONS] "`delete` with a condition on another value is refused, even if both values are equal as JSON";
    value_is_refused_over_nothing: "D-1" [CONDITIONS] "`delete` of an absent key with a condition on any value, including the empty value, is refused";
    value_is_refused_over_expired: "T-1" [CONDITIONS] "`delete` with a condition on the value of an expired entry is refused";
    refused_delete_leaves_the_deadline: "S-2" [CONDITIONS] "a refused `delete` leaves the deadline unchanged";
    previous_is_what_was_deleted: "D-1" [PREVIOUS] "`delete` with `return_previous` returns the entry that it removed, and without it returns none";
    previous_is_given_once: "D-1" [PREVIOUS] "of two deletes with `return_previous`, only the first returns the entry";
    previous_comes_with_a_condition: "D-1" [PREVIOUS, CONDITIONS] "a conditional `delete` returns the entry that it removed, or the current entry if the `delete` is refused";
}

fn k() -> Key {
    key(["k"])
}

async fn try_delete(cx: &Context, options: DeleteOptions) -> Result<DeleteOutcome, Failure> {
    Ok(cx.store().delete(&k(), &options).await?)
}

async fn expect_deleted(cx: &Context, when: When) -> Verdict {
    let outcome = try_delete(cx, DeleteOptions::default().with_when(when.clone())).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: None }, "the outcome of `delete` with {when:?}");
    cx.expect_absent(["k"]).await
}

async fn expect_missing(cx: &Context, when: When) -> Verdict {
    let outcome = try_delete(cx, DeleteOptions::default().with_when(when.clone())).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of `delete` with {when:?}");
    cx.expect_absent(["k"]).await
}

/// Fails unless a `delete` with the options is refused, returns the current entry, and changes nothing.
async fn expect_refused_with(cx: &Context, options: DeleteOptions) -> Verdict {
    let before = cx.store().get(&k()).await?;
    let outcome = try_delete(cx, options.clone()).await?;
    let name = "the outcome of `delete`";
    ensure_eq!(outcome, DeleteOutcome::Refused { current: before.clone() }, "{name} with {options:?}");
    ensure_eq!(cx.store().get(&k()).await?, before, "the entry that `get` returned after a refused `delete`");
    Ok(())
}

async fn expect_refused(cx: &Context, when: When) -> Verdict {
    expect_refused_with(cx, DeleteOptions::default().with_when(when)).await
}

/// Leaves an expired entry with the value `v`.
async fn write_expired(cx: &Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    cx.advance_past(SOON).await;
    Ok(())
}

async fn absent_is_missing_over_nothing(cx: Context) -> Verdict {
    expect_missing(&cx, When::Absent).await
}

async fn absent_is_refused_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused(&cx, When::Absent).await
}

async fn absent_is_missing_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_missing(&cx, When::Absent).await
}

async fn present_deletes_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "").await?;
    expect_deleted(&cx, When::Present).await
}

async fn present_is_refused_over_nothing(cx: Context) -> Verdict {
    expect_refused(&cx, When::Present).await
}

async fn present_is_refused_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_refused(&cx, When::Present).await
}

async fn version_deletes_its_own(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    expect_deleted(&cx, When::Version(version)).await
}

async fn version_is_refused_over_a_newer(cx: Context) -> Verdict {
    let old = cx.set_versioned(["k"], "v").await?;
    cx.set(["k"], "v").await?;
    expect_refused(&cx, When::Version(old)).await
}

async fn version_is_refused_over_nothing(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    expect_deleted(&cx, When::Version(version)).await?;
    expect_refused(&cx, When::Version(version)).await
}

async fn version_is_refused_over_expired(cx: Context) -> Verdict {
    let version = cx.set_ttl(["k"], "v", SOON).await?;
    let version = version.ok_or_else(|| Failure::new("the store declares versions, but `set` returned none"))?;
    cx.advance_past(SOON).await;
    expect_refused(&cx, When::Version(version)).await
}

async fn value_deletes_the_same(cx: Context) -> Verdict {
    for value in ["v", "", "\0\n"] {
        cx.set(["k"], value).await?;
        expect_deleted(&cx, When::Value(value.into())).await?;
    }
    Ok(())
}

async fn value_is_refused_over_another(cx: Context) -> Verdict {
    for (stored, other) in [("v", "w"), ("1", "1.0"), (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#), ("v", "")] {
        cx.set(["k"], stored).await?;
        expect_refused(&cx, When::Value(other.into())).await?;
    }
    Ok(())
}

async fn value_is_refused_over_nothing(cx: Context) -> Verdict {
    expect_refused(&cx, When::Value("v".into())).await?;
    expect_refused(&cx, When::Value("".into())).await
}

async fn value_is_refused_over_expired(cx: Context) -> Verdict {
    write_expired(&cx).await?;
    expect_refused(&cx, When::Value("v".into())).await
}

async fn refused_delete_leaves_the_deadline(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_when(When::Value("w".into()))).await?;
    ensure!(
        matches!(outcome, DeleteOutcome::Refused { .. }),
        "expected `delete` conditional on another value to be refused, but it returned {outcome:?}"
    );
    cx.advance_past(SOON).await;
    cx.expect_absent(["k"]).await
}

async fn previous_is_what_was_deleted(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let before = cx.entry(["k"]).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure_eq!(
        outcome,
        DeleteOutcome::Deleted { previous: Some(before) },
        "the outcome of `delete` with `return_previous`"
    );
    cx.set(["k"], "v").await?;
    let outcome = try_delete(&cx, DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: None }, "the outcome of `delete` without `return_previous`");
    Ok(())
}

async fn previous_is_given_once(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let first = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure!(
        matches!(first, DeleteOutcome::Deleted { previous: Some(_) }),
        "expected the first `delete` to return the entry, but it returned {first:?}"
    );
    let second = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure_eq!(second, DeleteOutcome::Missing, "the outcome of the second `delete` with `return_previous`");
    Ok(())
}

async fn previous_comes_with_a_condition(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    expect_refused_with(&cx, DeleteOptions::default().with_when(When::Absent).with_previous()).await?;
    let before = cx.entry(["k"]).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_when(When::Present).with_previous()).await?;
    ensure_eq!(
        outcome,
        DeleteOutcome::Deleted { previous: Some(before) },
        "the outcome of `delete` with `When::Present` and `return_previous`"
    );
    Ok(())
}
