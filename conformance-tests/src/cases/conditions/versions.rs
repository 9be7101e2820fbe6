//! Versions: each write makes a new version, and no version repeats.

use std::collections::HashSet;
use std::time::Duration;

use kv_core::{
    Capability, CommitOutcome, DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, Key, KvStore, ListQuery,
    SetItem, SetOptions, SetOutcome, Transaction, Version, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const VERSIONS: Need = Need::Has(Capability::Versions);
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const LIST: Need = Need::Has(Capability::List);

cases! { versions, Conditions:
    get_shows_the_version_that_set_gave: "G-1" [VERSIONS] "`get` shows the version that the last `set` returned";
    reads_agree_on_the_version: "G-1" [VERSIONS, LIST] "`get_many` and `list` show the same version as `get`";
    value_and_version_are_of_one_write: "G-1" [VERSIONS] "a read during concurrent writes returns value and version of the same write";
    same_bytes_give_a_new_version: "S-3" [VERSIONS] "`set` of the same bytes returns a new version";
    overwrites_never_repeat_a_version: "S-3" [VERSIONS] "no version repeats in 2,000 overwrites";
    recreation_never_repeats_a_version: "S-3" [VERSIONS] "no version repeats when a key is deleted and created again";
    recreation_after_expiry_never_repeats_a_version: "S-3" [VERSIONS] "no version repeats when a key expires and is created again";
    conditional_set_gives_a_new_version: "S-3" [VERSIONS, CONDITIONS] "a conditional `set` returns a new version, which `get` shows";
    set_many_gives_new_versions: "S-3" [VERSIONS] "each write of `set_many` returns a new version, which `get` shows";
    increment_gives_a_new_version: "S-3" [VERSIONS, COUNTERS] "`increment` makes a new version, even if the amount is zero";
    commit_gives_new_versions: "S-3" [VERSIONS, TRANSACTIONS] "each set of a transaction returns a new version, which `get` shows";
    versions_differ_across_keys: "S-3" [VERSIONS] "the same bytes under 1,000 keys have 1,000 different versions";
    old_version_does_not_fit_a_recreated_entry: "S-3" [VERSIONS, CONDITIONS] "after an entry is deleted and created again, a condition on its old version fails, even if the bytes are the same";
    every_write_outdates_a_version: "S-3" [VERSIONS, CONDITIONS] "after `set` and `set_many`, a condition on the earlier version fails";
    increment_outdates_a_version: "S-3" [VERSIONS, CONDITIONS, COUNTERS] "after `increment`, a condition on the earlier version fails";
    commit_outdates_a_version: "S-3" [VERSIONS, CONDITIONS, TRANSACTIONS] "after `commit`, a condition on the earlier version fails";
    refused_writes_leave_the_version: "S-2" [VERSIONS, CONDITIONS] "after refused writes, a condition on the earlier version still holds";
    version_of_another_key_is_refused: "S-3" [VERSIONS, CONDITIONS] "a condition on the version of another key with the same bytes fails";
    unknown_version_is_refused: "S-3" [VERSIONS, CONDITIONS] "a condition on a version that no write returned fails, whatever its length";
}

/// The version of the live entry; fails if there is none.
async fn version(cx: &Context, key: &Key) -> Result<Version, Failure> {
    let version = cx.entry(key).await?.version;
    version.ok_or_else(|| {
        Failure::new(format!("the store declares versions, but `get` of {key} returned an entry without one"))
    })
}

/// Adds the version of a write to `seen`. Fails if the write has no version, or if the version repeats.
fn expect_new(seen: &mut HashSet<Version>, version: Option<Version>) -> Verdict {
    let version = version.ok_or_else(|| Failure::new("the store declares versions, but a write returned none"))?;
    ensure!(
        seen.insert(version),
        "expected a new version, but a write returned {version} a second time after {} writes",
        seen.len()
    );
    Ok(())
}

/// Fails unless `set` and `delete` with a condition on the version are refused.
async fn expect_outdated(cx: &Context, key: &Key, version: Version) -> Verdict {
    let options = SetOptions::default().with_when(When::Version(version));
    let outcome = cx.store().set(key, "must not be stored".into(), &options).await?;
    ensure!(
        matches!(outcome, SetOutcome::Refused { .. }),
        "expected `set` of {key} conditional on an outdated version to be refused, but it returned {outcome:?}"
    );
    let outcome = cx.store().delete(key, &DeleteOptions::default().with_when(When::Version(version))).await?;
    ensure!(
        matches!(outcome, DeleteOutcome::Refused { .. }),
        "expected `delete` of {key} conditional on an outdated version to be refused, but it returned {outcome:?}"
    );
    Ok(())
}

async fn get_shows_the_version_that_set_gave(cx: Context) -> Verdict {
    for value in ["v", "w", ""] {
        let returned = cx.set_versioned(["k"], value).await?;
        ensure_eq!(version(&cx, &key(["k"])).await?, returned, "the version that `get` returned after `set`");
    }
    Ok(())
}

async fn reads_agree_on_the_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    cx.set_ttl(&k, "v", Duration::from_secs(3_600)).await?;
    let entry = cx.entry(&k).await?;
    for answer in cx.store().get_many(std::slice::from_ref(&k)).await {
        ensure_eq!(answer?, Some(entry.clone()), "the entry that `get_many` returned");
    }
    let listed: Vec<_> = cx.list_all(ListQuery::new(k)).await?.into_iter().map(|item| item.entry).collect();
    ensure_eq!(listed, vec![Some(entry)], "the entries that `list` returned");
    Ok(())
}

async fn value_and_version_are_of_one_write(cx: Context) -> Verdict {
    const WRITERS: usize = 4;
    let logs = clients(&cx, WRITERS + 4, |cx, client| async move {
        let mut pairs = Vec::new();
        for round in 0..200 {
            if client < WRITERS {
                let value = format!("{client}.{round}");
                pairs.push((cx.set_versioned(["k"], value.clone()).await?, value));
            } else if let Some(entry) = cx.store().get(&key(["k"])).await? {
                let version = entry.version.ok_or_else(|| {
                    Failure::new("the store declares versions, but `get` returned an entry without one")
                })?;
                pairs.push((version, String::from_utf8_lossy(&entry.value).into_owned()));
            }
            tokio::task::yield_now().await;
        }
        Ok(pairs)
    })
    .await?;
    let written: HashSet<_> = logs.iter().take(WRITERS).flatten().collect();
    for pair in logs.iter().skip(WRITERS).flatten() {
        ensure!(
            written.contains(pair),
            "`get` returned version and value {pair:?}, but no `set` wrote this value with this version"
        );
    }
    Ok(())
}

async fn same_bytes_give_a_new_version(cx: Context) -> Verdict {
    let mut seen = HashSet::new();
    for _ in 0..10 {
        expect_new(&mut seen, cx.set(["k"], "same").await?)?;
    }
    Ok(())
}

async fn overwrites_never_repeat_a_version(cx: Context) -> Verdict {
    let mut seen = HashSet::new();
    for round in 0..2_000 {
        expect_new(&mut seen, cx.set(["k"], (round % 3).to_string()).await?)?;
    }
    Ok(())
}

async fn recreation_never_repeats_a_version(cx: Context) -> Verdict {
    let mut seen = HashSet::new();
    for _ in 0..500 {
        expect_new(&mut seen, cx.set(["k"], "same").await?)?;
        cx.delete(["k"]).await?;
    }
    Ok(())
}

async fn recreation_after_expiry_never_repeats_a_version(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(5);
    let mut seen = HashSet::new();
    for round in 0..20 {
        expect_new(&mut seen, cx.set_ttl(["k"], "same", ttl).await?)?;
        cx.advance_past(ttl).await;
        if round % 4 == 0 {
            cx.store().sweep().await?;
        }
        expect_new(&mut seen, cx.set_ttl(["k"], "same", Duration::ZERO).await?)?;
    }
    Ok(())
}

async fn conditional_set_gives_a_new_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let mut seen = HashSet::new();
    expect_new(&mut seen, cx.set_with(&k, "v", SetOptions::default().with_when(When::Absent)).await?)?;
    for _ in 0..50 {
        let current = version(&cx, &k).await?;
        ensure!(seen.contains(&current), "`get` returned the version {current}, but no write returned it");
        expect_new(&mut seen, cx.set_with(&k, "v", SetOptions::default().with_when(When::Version(current))).await?)?;
        expect_new(&mut seen, cx.set_with(&k, "v", SetOptions::default().with_when(When::Present)).await?)?;
        expect_new(&mut seen, cx.set_with(&k, "v", SetOptions::default().with_when(When::Value("v".into()))).await?)?;
    }
    Ok(())
}

async fn set_many_gives_new_versions(cx: Context) -> Verdict {
    let items: Vec<_> = ["a", "b", "c", "a"].iter().map(|name| SetItem::new(key([name]), "same")).collect();
    let mut seen = HashSet::new();
    for _ in 0..5 {
        let mut last = None;
        for outcome in cx.store().set_many(&items).await {
            last = outcome?.version();
            expect_new(&mut seen, last)?;
        }
        ensure_eq!(
            cx.entry(["a"]).await?.version,
            last,
            "the version that `get` returned after `set_many` wrote the key twice"
        );
    }
    Ok(())
}

async fn increment_gives_a_new_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let mut seen = HashSet::new();
    for by in [1, 1, 0, -1, 0] {
        cx.store().increment(&k, by, &IncrementOptions::default()).await?;
        expect_new(&mut seen, cx.entry(&k).await?.version)?;
    }
    Ok(())
}

async fn commit_gives_new_versions(cx: Context) -> Verdict {
    let k = key(["k"]);
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let transaction = Transaction::new().set(k.clone(), "same", Expiry::Never);
        match cx.store().commit(&transaction).await? {
            CommitOutcome::Committed { versions } => {
                ensure_eq!(versions, vec![cx.entry(&k).await?.version], "the versions that `commit` returned");
                expect_new(&mut seen, versions.first().copied().flatten())?;
            }
            outcome @ CommitOutcome::Refused { .. } => {
                return Err(Failure::new(format!(
                    "expected `commit` without checks to be committed, but it returned {outcome:?}"
                )));
            }
        }
    }
    Ok(())
}

async fn versions_differ_across_keys(cx: Context) -> Verdict {
    let items: Vec<_> = (0..1_000).map(|number: u32| SetItem::new(key(["k", &number.to_string()]), "same")).collect();
    let mut seen = HashSet::new();
    for outcome in cx.store().set_many(&items).await {
        expect_new(&mut seen, outcome?.version())?;
    }
    Ok(())
}

async fn old_version_does_not_fit_a_recreated_entry(cx: Context) -> Verdict {
    let k = key(["k"]);
    let mut old = vec![cx.set_versioned(&k, "same").await?];
    for _ in 0..5 {
        cx.delete(&k).await?;
        let new = cx.set_versioned(&k, "same").await?;
        for &version in &old {
            expect_outdated(&cx, &k, version).await?;
        }
        old.push(new);
    }
    cx.expect(&k, "same").await
}

async fn every_write_outdates_a_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let first = cx.set_versioned(&k, "same").await?;
    let second = cx.set_versioned(&k, "same").await?;
    expect_outdated(&cx, &k, first).await?;
    cx.set_many(&[SetItem::new(k.clone(), "same")]).await?;
    expect_outdated(&cx, &k, second).await?;
    cx.expect(&k, "same").await
}

async fn increment_outdates_a_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let seen = cx.set_versioned(&k, "1").await?;
    cx.store().increment(&k, 0, &IncrementOptions::default()).await?;
    expect_outdated(&cx, &k, seen).await?;
    cx.expect(&k, "1").await
}

async fn commit_outdates_a_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let seen = cx.set_versioned(&k, "same").await?;
    let outcome = cx.store().commit(&Transaction::new().set(k.clone(), "same", Expiry::Never)).await?;
    ensure!(outcome.is_committed(), "expected `commit` without checks to be committed, but it returned {outcome:?}");
    expect_outdated(&cx, &k, seen).await?;
    cx.expect(&k, "same").await
}

async fn refused_writes_leave_the_version(cx: Context) -> Verdict {
    let k = key(["k"]);
    let current = cx.set_versioned(&k, "v").await?;
    for when in [When::Absent, When::Value("w".into()), When::Version(Version::random())] {
        let refused = SetOptions::default().with_when(when.clone());
        ensure!(
            !cx.store().set(&k, "w".into(), &refused).await?.is_stored(),
            "`set` with {when:?} was stored, but it should be refused"
        );
        let refused = DeleteOptions::default().with_when(when.clone());
        ensure!(
            !cx.store().delete(&k, &refused).await?.is_deleted(),
            "`delete` with {when:?} removed the entry, but it should be refused"
        );
    }
    cx.set_with(&k, "x", SetOptions::default().with_when(When::Version(current))).await?;
    Ok(())
}

async fn version_of_another_key_is_refused(cx: Context) -> Verdict {
    let one = cx.set_versioned(["one"], "same").await?;
    let two = cx.set_versioned(["two"], "same").await?;
    expect_outdated(&cx, &key(["two"]), one).await?;
    expect_outdated(&cx, &key(["one"]), two).await?;
    expect_outdated(&cx, &key(["three"]), one).await
}

async fn unknown_version_is_refused(cx: Context) -> Verdict {
    let k = key(["k"]);
    let known = cx.set_versioned(&k, "v").await?;
    expect_outdated(&cx, &k, Version::random()).await?;
    for bytes in [&[0_u8][..], b"v", &[0; 16], &[255; 16]] {
        expect_outdated(&cx, &k, Version::from_bytes(bytes)?).await?;
    }
    if let Some((_, cut)) = known.as_bytes().split_last()
        && !cut.is_empty()
    {
        expect_outdated(&cx, &k, Version::from_bytes(cut)?).await?;
    }
    cx.expect(&k, "v").await
}
