//! Deletes under a condition: each kind over nothing, over a live entry, and over an expired one.

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
    absent_is_missing_over_nothing: "D-1" [CONDITIONS] "a delete under Absent of what is not there removes nothing and is not refused";
    absent_is_refused_over_live: "D-1" [CONDITIONS] "a delete under Absent is refused where an entry is";
    absent_is_missing_over_expired: "T-1" [CONDITIONS] "a delete under Absent of an expired entry removes nothing and is not refused";
    present_deletes_over_live: "D-1" [CONDITIONS] "a delete under Present removes what is there";
    present_is_refused_over_nothing: "D-1" [CONDITIONS] "a delete under Present is refused where nothing is";
    present_is_refused_over_expired: "T-1" [CONDITIONS] "a delete under Present is refused where the entry has expired";
    version_deletes_its_own: "D-1" [CONDITIONS, VERSIONS] "a delete under the current version removes the entry";
    version_is_refused_over_a_newer: "D-1" [CONDITIONS, VERSIONS] "a delete under the version of an earlier write is refused";
    version_is_refused_over_nothing: "D-1" [CONDITIONS, VERSIONS] "a delete under a version that was deleted is refused";
    version_is_refused_over_expired: "T-1" [CONDITIONS, VERSIONS] "a delete under the version of an expired entry is refused";
    value_deletes_the_same: "D-1" [CONDITIONS] "a delete under the current value removes the entry";
    value_is_refused_over_another: "D-1" [CONDITIONS] "a delete under another value, be it equal as JSON, is refused";
    value_is_refused_over_nothing: "D-1" [CONDITIONS] "a delete under any value, the empty one included, is refused where nothing is";
    value_is_refused_over_expired: "T-1" [CONDITIONS] "a delete under the value of an expired entry is refused";
    refused_delete_leaves_the_deadline: "S-2" [CONDITIONS] "a refused delete leaves the deadline as it was";
    previous_is_what_was_deleted: "D-1" [PREVIOUS] "a delete gives the entry that it removed, on request only";
    previous_is_given_once: "D-1" [PREVIOUS] "get and delete in one: the second finds nothing";
    previous_comes_with_a_condition: "D-1" [PREVIOUS, CONDITIONS] "a delete under a condition gives the entry that it removed, or the current one";
}

fn k() -> Key {
    key(["k"])
}

async fn try_delete(cx: &Context, options: DeleteOptions) -> Result<DeleteOutcome, Failure> {
    Ok(cx.store().delete(&k(), &options).await?)
}

async fn deletes(cx: &Context, when: When) -> Verdict {
    let outcome = try_delete(cx, DeleteOptions::default().with_when(when)).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: None }, "the outcome");
    cx.expect_absent(["k"]).await
}

async fn misses(cx: &Context, when: When) -> Verdict {
    let outcome = try_delete(cx, DeleteOptions::default().with_when(when)).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome");
    cx.expect_absent(["k"]).await
}

/// Fails unless a delete with the options is refused, tells the current entry, and changes nothing of it.
async fn refuses_with(cx: &Context, options: DeleteOptions) -> Verdict {
    let before = cx.store().get(&k()).await?;
    let outcome = try_delete(cx, options).await?;
    ensure_eq!(outcome, DeleteOutcome::Refused { current: before.clone() }, "the outcome");
    ensure_eq!(cx.store().get(&k()).await?, before, "the entry after a refused delete");
    Ok(())
}

async fn refuses(cx: &Context, when: When) -> Verdict {
    refuses_with(cx, DeleteOptions::default().with_when(when)).await
}

/// Leaves an expired entry with the value `v`.
async fn expired(cx: &Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    cx.outlive(SOON).await;
    Ok(())
}

async fn absent_is_missing_over_nothing(cx: Context) -> Verdict {
    misses(&cx, When::Absent).await
}

async fn absent_is_refused_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    refuses(&cx, When::Absent).await
}

async fn absent_is_missing_over_expired(cx: Context) -> Verdict {
    expired(&cx).await?;
    misses(&cx, When::Absent).await
}

async fn present_deletes_over_live(cx: Context) -> Verdict {
    cx.set(["k"], "").await?;
    deletes(&cx, When::Present).await
}

async fn present_is_refused_over_nothing(cx: Context) -> Verdict {
    refuses(&cx, When::Present).await
}

async fn present_is_refused_over_expired(cx: Context) -> Verdict {
    expired(&cx).await?;
    refuses(&cx, When::Present).await
}

async fn version_deletes_its_own(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    deletes(&cx, When::Version(version)).await
}

async fn version_is_refused_over_a_newer(cx: Context) -> Verdict {
    let old = cx.set_versioned(["k"], "v").await?;
    cx.set(["k"], "v").await?;
    refuses(&cx, When::Version(old)).await
}

async fn version_is_refused_over_nothing(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    deletes(&cx, When::Version(version)).await?;
    refuses(&cx, When::Version(version)).await
}

async fn version_is_refused_over_expired(cx: Context) -> Verdict {
    let version = cx.set_ttl(["k"], "v", SOON).await?;
    let version = version.ok_or_else(|| Failure::new("a store with versions gave none for a set"))?;
    cx.outlive(SOON).await;
    refuses(&cx, When::Version(version)).await
}

async fn value_deletes_the_same(cx: Context) -> Verdict {
    for value in ["v", "", "\0\n"] {
        cx.set(["k"], value).await?;
        deletes(&cx, When::Value(value.into())).await?;
    }
    Ok(())
}

async fn value_is_refused_over_another(cx: Context) -> Verdict {
    for (stored, other) in [("v", "w"), ("1", "1.0"), (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#), ("v", "")] {
        cx.set(["k"], stored).await?;
        refuses(&cx, When::Value(other.into())).await?;
    }
    Ok(())
}

async fn value_is_refused_over_nothing(cx: Context) -> Verdict {
    refuses(&cx, When::Value("v".into())).await?;
    refuses(&cx, When::Value("".into())).await
}

async fn value_is_refused_over_expired(cx: Context) -> Verdict {
    expired(&cx).await?;
    refuses(&cx, When::Value("v".into())).await
}

async fn refused_delete_leaves_the_deadline(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", SOON).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_when(When::Value("w".into()))).await?;
    ensure!(matches!(outcome, DeleteOutcome::Refused { .. }), "the outcome is {outcome:?}, and should be refused");
    cx.outlive(SOON).await;
    cx.expect_absent(["k"]).await
}

async fn previous_is_what_was_deleted(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let before = cx.entry(["k"]).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: Some(before) }, "the outcome");
    cx.set(["k"], "v").await?;
    let outcome = try_delete(&cx, DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: None }, "the outcome where nothing was asked for");
    Ok(())
}

async fn previous_is_given_once(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let first = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure!(matches!(first, DeleteOutcome::Deleted { previous: Some(_) }), "the first delete gives {first:?}");
    let second = try_delete(&cx, DeleteOptions::default().with_previous()).await?;
    ensure_eq!(second, DeleteOutcome::Missing, "the second delete");
    Ok(())
}

async fn previous_comes_with_a_condition(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    refuses_with(&cx, DeleteOptions::default().with_when(When::Absent).with_previous()).await?;
    let before = cx.entry(["k"]).await?;
    let outcome = try_delete(&cx, DeleteOptions::default().with_when(When::Present).with_previous()).await?;
    ensure_eq!(outcome, DeleteOutcome::Deleted { previous: Some(before) }, "the outcome");
    Ok(())
}
