//! Reads with options, the declared freshness of reads, and the store's time.

use std::time::{Duration, SystemTime};

use kv_core::{
    Capability, GetOptions, GetOutcome, Key, KvStore, ListQuery, NewExpiry, Reads, SetOptions, Version, When,
};
use tokio::task::JoinSet;

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const VERSIONS: Need = Need::Has(Capability::Versions);

cases! { reads, Core:
    are_as_declared: "G-3" [] "`reads` is `Bounded` if and only if the store declares `bounded_reads`";
    never_go_back: "G-3" [] "the reads of a key through one handle never go back, whatever operation answered";
    with_options_are_reads: "G-4" [] "`get_with` without a version returns what `get` returns";
    with_a_version_return_no_known_value: "G-4" [VERSIONS] "`get_with` answers `NotModified` for an entry of the given version, and returns every other entry";
    with_a_version_show_the_deadline: "G-4" [VERSIONS, Need::Has(Capability::Touch), Need::Has(Capability::Deadlines)] "`NotModified` has the current deadline of the entry, also after a `touch`";
    of_the_time_are_not_behind: "T-7" [] "`time` is neither behind the clock of the store nor seconds ahead of it";
    of_the_time_judge_deadlines: "T-7" [Need::Has(Capability::Deadlines)] "after an entry has expired, `time` is not before its deadline";
}

async fn are_as_declared(cx: Context) -> Verdict {
    let info = cx.store().info();
    let is_bounded = matches!(info.reads, Reads::Bounded(_));
    ensure_eq!(is_bounded, cx.capabilities().bounded_reads, "if the reads are bounded: {:?}", info.reads);
    Ok(())
}

async fn with_options_are_reads(cx: Context) -> Verdict {
    let k = key(["k"]);
    for options in [GetOptions::default(), GetOptions::default().with_fresh()] {
        ensure_eq!(cx.store().get_with(&k, &options).await?, GetOutcome::Absent, "`get_with` of an absent key");
        cx.set(&k, "").await?;
        let expected = GetOutcome::Found(cx.entry(&k).await?);
        ensure_eq!(cx.store().get_with(&k, &options).await?, expected, "`get_with` of an entry");
        cx.delete(&k).await?;
    }
    Ok(())
}

async fn with_a_version_return_no_known_value(cx: Context) -> Verdict {
    let k = key(["k"]);
    let first = cx.set_versioned(&k, "1").await?;
    let options = GetOptions::default().with_unless_version(first);
    let expected = GetOutcome::NotModified { expires: cx.entry(&k).await?.expires };
    ensure_eq!(cx.store().get_with(&k, &options).await?, expected, "`get_with` of the given version");
    let other = GetOptions::default().with_unless_version(Version::random());
    let expected = GetOutcome::Found(cx.entry(&k).await?);
    ensure_eq!(cx.store().get_with(&k, &other).await?, expected, "`get_with` of another version");
    cx.set(&k, "1").await?;
    let expected = GetOutcome::Found(cx.entry(&k).await?);
    ensure_eq!(cx.store().get_with(&k, &options).await?, expected, "`get_with` after the same bytes were set again");
    cx.delete(&k).await?;
    ensure_eq!(cx.store().get_with(&k, &options).await?, GetOutcome::Absent, "`get_with` after a delete");
    Ok(())
}

async fn with_a_version_show_the_deadline(cx: Context) -> Verdict {
    let k = key(["k"]);
    let options = GetOptions::default().with_unless_version(cx.set_versioned(&k, "1").await?);
    for expiry in [NewExpiry::After(Duration::from_secs(600)), NewExpiry::Never] {
        ensure!(cx.store().touch(&k, expiry).await?, "`touch` found no entry");
        let expected = GetOutcome::NotModified { expires: cx.entry(&k).await?.expires };
        ensure_eq!(cx.store().get_with(&k, &options).await?, expected, "`get_with` after a touch to {expiry:?}");
    }
    Ok(())
}

/// The time by which `time` may be ahead of the clock of the store on a slow machine.
const MAX_AHEAD: Duration = Duration::from_secs(5);

async fn of_the_time_are_not_behind(cx: Context) -> Verdict {
    for _ in 0..3 {
        let before = cx.now();
        let time = cx.store().time().await?;
        ensure!(time >= before, "`time` returned {time:?}, which is before the time of the clock, {before:?}");
        let ahead = time.duration_since(cx.now()).unwrap_or_default();
        ensure!(ahead < MAX_AHEAD, "`time` is {ahead:?} ahead of the clock");
        cx.advance(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn of_the_time_judge_deadlines(cx: Context) -> Verdict {
    const TTL: Duration = Duration::from_millis(200);
    let k = key(["k"]);
    cx.set_ttl(&k, "1", TTL).await?;
    let kv_core::Expires::At(deadline) = cx.entry(&k).await?.expires else {
        return Err(Failure::new("the entry has no deadline"));
    };
    cx.advance_past(TTL).await;
    cx.expect_absent(&k).await?;
    let time: SystemTime = cx.store().time().await?;
    ensure!(time >= deadline, "the entry has expired at {deadline:?}, and `time` returned {time:?}");
    Ok(())
}

/// Returns the number that each operation shows for the key.
async fn numbers(cx: &Context, key: &Key) -> Result<Vec<(&'static str, u64)>, Failure> {
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let store = cx.store();
    let mut seen = vec![("get", store.get(key).await?.map_or(0, |entry| number(&entry.value)))];
    if cx.has(Capability::Conditions) {
        let options = SetOptions::default().with_when(When::Absent);
        if let kv_core::SetOutcome::Refused { current: Some(entry) } = store.set(key, "0".into(), &options).await? {
            seen.push(("a refused set", number(&entry.value)));
        }
    }
    if let GetOutcome::Found(entry) = store.get_with(key, &GetOptions::default()).await? {
        seen.push(("get_with", number(&entry.value)));
    }
    for found in store.get_many(std::slice::from_ref(key)).await {
        seen.push(("get_many", found?.map_or(0, |entry| number(&entry.value))));
    }
    if cx.has(Capability::List) {
        let items = store.list(&ListQuery::new(key.clone())).await?.items;
        let entry = items.into_iter().find(|item| item.key == *key).and_then(|item| item.entry);
        seen.push(("list", entry.map_or(0, |entry| number(&entry.value))));
    }
    Ok(seen)
}

async fn never_go_back(cx: Context) -> Verdict {
    const WRITES: u64 = 200;
    let k = key(["k"]);
    cx.set(&k, "1").await?;
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (cx, k) = (cx.clone(), k.clone());
        tasks.spawn(async move {
            let mut last = ("the first set", 1);
            while last.1 < WRITES {
                for (operation, number) in numbers(&cx, &k).await? {
                    ensure!(number >= last.1, "{} showed the write {}, and {operation} then {number}", last.0, last.1);
                    last = (operation, number);
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        });
    }
    for number in 2..=WRITES {
        cx.set(&k, number.to_string()).await?;
        tokio::task::yield_now().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Failure::new(format!("a reading task panicked: {error}")))??;
    }
    Ok(())
}
