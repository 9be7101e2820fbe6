//! Batches of a thousand keys, some of them absent or with a condition.

use kv_core::{Capability, DeleteOutcome, ErrorKind, Key, KvStore, SetItem, SetOptions, SetOutcome, When};

use crate::case::{Need, cases};
use crate::cases::core::errors::over_the_limit;
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const VERSIONS: Need = Need::Has(Capability::Versions);

cases! { large_batches, Batch:
    holes_in_get_many: "B-1" [Need::KeepsAll] "`get_many` of 1,000 keys returns none for exactly the absent keys, at any position";
    holes_in_delete_many: "B-1" [Need::KeepsAll] "`delete_many` of 1,000 keys reports exactly the absent keys as missing, at any position";
    refusals_in_set_many: "B-1" [CONDITIONS, Need::KeepsAll] "`set_many` of 1,000 items refuses exactly the items whose condition fails, at any position";
    oversized_among_many: "B-1" [Need::KeepsAll] "in `set_many` of 1,000 items, only the items with a value over the limit fail";
    versions_in_set_many: "B-1" [CONDITIONS, VERSIONS] "each item of `set_many` with a condition on a version is stored if the version is current, and refused otherwise";
    each_write_has_its_own_version: "S-3" [VERSIONS] "several writes of a key in one `set_many` have different versions";
    long_keys_with_one_beginning: "B-1" [] "a batch of keys that differ only after hundreds of equal bytes returns the right entry of each key";
}

const MANY: usize = 1_000;

/// The positions of absent keys: alone, in pairs, and at the borders of the sizes that chunks usually have.
fn is_hole(at: usize) -> bool {
    const SIZES: [usize; 7] = [64, 100, 128, 250, 256, 500, 512];
    at == 0 || at == MANY - 1 || SIZES.iter().any(|size| at % size <= 1 || at % size == size - 1)
}

/// Writes every key whose position is not a hole (see [`is_hole`]), and returns all keys.
async fn write_with_holes(cx: &Context) -> Result<Vec<Key>, Failure> {
    let keys: Vec<Key> = (0..MANY).map(|at| key(["k", &at.to_string()])).collect();
    let there = keys.iter().enumerate().filter(|(at, _)| !is_hole(*at));
    cx.set_many(&there.map(|(at, key)| SetItem::new(key.clone(), at.to_string())).collect::<Vec<_>>()).await?;
    Ok(keys)
}

async fn holes_in_get_many(cx: Context) -> Verdict {
    let keys = write_with_holes(&cx).await?;
    let results = cx.store().get_many(&keys).await;
    ensure_eq!(results.len(), MANY, "the number of results that `get_many` returned");
    for (at, result) in results.into_iter().enumerate() {
        let expected = (!is_hole(at)).then(|| at.to_string().into());
        ensure_eq!(result?.map(|entry| entry.value), expected, "result {at} of `get_many` of 1,000 keys");
    }
    Ok(())
}

async fn holes_in_delete_many(cx: Context) -> Verdict {
    let keys = write_with_holes(&cx).await?;
    let outcomes = cx.store().delete_many(&keys).await;
    ensure_eq!(outcomes.len(), MANY, "the number of outcomes that `delete_many` returned");
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let expected = if is_hole(at) { DeleteOutcome::Missing } else { DeleteOutcome::Deleted { previous: None } };
        ensure_eq!(outcome?, expected, "outcome {at} of `delete_many` of 1,000 keys");
    }
    Ok(())
}

async fn refusals_in_set_many(cx: Context) -> Verdict {
    let keys = write_with_holes(&cx).await?;
    let options = SetOptions::default().with_when(When::Absent);
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "new").with_options(options.clone())).collect();
    let outcomes = cx.store().set_many(&items).await;
    ensure_eq!(outcomes.len(), MANY, "the number of outcomes that `set_many` returned");
    for (at, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome?;
        ensure!(
            outcome.is_stored() == is_hole(at),
            "outcome {at} of `set_many` of 1,000 items with `When::Absent` is {outcome:?}, but its key was {}",
            if is_hole(at) { "absent" } else { "live" }
        );
    }
    Ok(())
}

async fn oversized_among_many(cx: Context) -> Verdict {
    let Some(oversized) = over_the_limit(&cx) else { return Ok(()) };
    let is_oversized = |at: usize| [0, 499, 500, MANY - 1].contains(&at);
    let value = |at| if is_oversized(at) { oversized.clone() } else { "v".into() };
    let items: Vec<_> = (0..MANY).map(|at| SetItem::new(key(["k", &at.to_string()]), value(at))).collect();
    for (at, outcome) in cx.store().set_many(&items).await.into_iter().enumerate() {
        match outcome {
            Ok(outcome) if outcome.is_stored() && !is_oversized(at) => {}
            Err(error) if error.kind() == ErrorKind::Invalid && is_oversized(at) => {}
            other => {
                let size = if is_oversized(at) { "over the limit" } else { "of one byte" };
                return Err(Failure::new(format!(
                    "`set_many` of item {at}, whose value is {size}, returned {other:?}"
                )));
            }
        }
    }
    for at in [1, 498, 501, MANY - 2] {
        cx.expect(["k", &at.to_string()], "v").await?;
    }
    Ok(())
}

async fn versions_in_set_many(cx: Context) -> Verdict {
    let current = cx.set_versioned(["a"], "1").await?;
    let outdated = cx.set_versioned(["b"], "1").await?;
    cx.set(["b"], "2").await?;
    let under = |name, version| {
        SetItem::new(key([name]), "new").with_options(SetOptions::default().with_when(When::Version(version)))
    };
    let outcomes = cx.store().set_many(&[under("a", current), under("b", outdated), under("none", current)]).await;
    let stored: Vec<bool> =
        outcomes.into_iter().map(|outcome| Ok::<_, Failure>(outcome?.is_stored())).collect::<Result<_, _>>()?;
    ensure_eq!(stored, [true, false, false], "the items of `set_many` under versions that were stored");
    cx.expect(["a"], "new").await?;
    cx.expect(["b"], "2").await?;
    cx.expect_absent(["none"]).await
}

async fn each_write_has_its_own_version(cx: Context) -> Verdict {
    let items = [SetItem::new(key(["k"]), "same"), SetItem::new(key(["k"]), "same")];
    let mut versions = Vec::new();
    for outcome in cx.store().set_many(&items).await {
        match outcome? {
            SetOutcome::Stored { version, .. } => versions.push(version),
            refused @ SetOutcome::Refused { .. } => {
                return Err(Failure::new(format!("`set_many` refused a write that has no condition: {refused:?}")));
            }
        }
    }
    ensure!(
        versions.first() != versions.last(),
        "two writes of a key in one `set_many` have the versions {versions:?}"
    );
    ensure_eq!(
        Some(cx.entry(["k"]).await?.version),
        versions.last().copied(),
        "the version that `get` returned, compared with the last write of `set_many`"
    );
    Ok(())
}

async fn long_keys_with_one_beginning(cx: Context) -> Verdict {
    for length in [250, 520, 1_030, 1_900] {
        let beginning = "x".repeat(length);
        let keys: Vec<Key> = (0..8).map(|at| key(["k", &format!("{beginning}{at}")])).collect();
        let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), key.to_string())).collect();
        cx.set_many(items.get(1..).unwrap_or_default()).await?;
        for (at, result) in cx.store().get_many(&keys).await.into_iter().enumerate() {
            let expected = items.get(at).filter(|_| at > 0).map(|item| item.value.clone());
            ensure_eq!(result?.map(|entry| entry.value), expected, "result {at} of `get_many` of long keys");
        }
        for (at, outcome) in cx.store().delete_many(&keys).await.into_iter().enumerate() {
            let outcome = outcome?;
            ensure!(
                outcome.is_deleted() == (at > 0),
                "outcome {at} of `delete_many` of long keys is {outcome:?}, but only the first key was absent"
            );
        }
    }
    Ok(())
}
