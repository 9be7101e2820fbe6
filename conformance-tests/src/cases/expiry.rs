//! Time to live: when an entry goes, and what a write does to its deadline.

use std::time::{Duration, SystemTime};

use kv_core::{Capability, Expiry, KvStore, SetItem, SetOptions, SetOutcome, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { expiry, Core:
    absent_at_its_deadline: "T-1" [Need::Clock] "an entry is there a millisecond before its deadline, and absent from the deadline on";
    expires: "T-1" [] "an entry is absent when its time is over, however short it was";
    not_before_its_time: "T-2" [] "an entry stays until its time is over: 1.5 seconds are not one";
    each_at_its_own: "T-1" [Need::Clock] "entries that were written together go one by one, each at its own deadline";
    without_one_it_stays: "S-1" [] "an entry without a deadline stays";
    a_month_is_not_short: "T-2" [] "31 days are no overflow: the entry is there, and where the clock can be moved it goes at the end of them";
    rounds_up: "T-3" [Need::Clock] "part of a millisecond counts as a whole one";
    parts_of_seconds: "T-3" [Need::Clock] "seconds are not the unit: a millisecond more or less tells";
    at_a_moment: "T-1" [Need::Clock] "a deadline given as a moment is that moment";
    overwrite_without_one_clears_it: "S-1" [] "a write without a deadline makes the entry permanent";
    overwrite_with_a_longer_one: "S-1" [] "a write with a longer time to live counts from that write";
    overwrite_with_a_shorter_one: "S-1" [] "a write with a shorter time to live is not held up by the old one";
    the_clock_starts_at_each_write: "S-1" [Need::Clock] "the same time to live again starts again";
    keep_keeps_it: "S-1" [] "Keep writes the value and leaves the deadline";
    keep_keeps_none: "S-1" [] "Keep over a permanent entry leaves it permanent";
    keep_on_absent_is_never: "S-1" [] "Keep on an absent key means never";
    keep_on_expired_is_never: "S-1" [] "Keep on an expired key does not bring its deadline back";
    zero_is_absent: "T-3" [] "a time to live of zero is stored in name only: the key is absent";
    zero_removes_what_was_there: "T-3" [] "a time to live of zero over an entry removes it";
    zero_is_judged_first: "T-3" [Need::Has(Capability::Conditions)] "a condition counts for a time to live of zero as for any other";
    the_past_is_absent: "T-3" [] "a moment in the past is as zero, down to the beginning of time";
    now_is_absent: "T-3" [Need::Clock] "this very moment is past";
    the_longest_is_never: "T-3" [] "Duration::MAX and whatever cannot be represented means never, and fails nothing";
    the_farthest_moment_is_never: "T-3" [] "a moment that cannot be represented means never";
    a_condition_sets_it: "S-1" [Need::Has(Capability::Conditions)] "a conditional write sets its deadline as any other";
    a_refusal_leaves_it: "S-2" [Need::Has(Capability::Conditions)] "a refused write leaves the deadline that was there";
    each_of_a_batch_its_own: "B-1" [] "each write of a batch has its own deadline";
    reading_does_not_extend: "T-5" [Need::Clock] "no way of reading moves a deadline";
    written_again_it_stays: "S-1" [] "a key that is written again after its end does not end a second time";
}

/// Short enough to wait for, long enough that a busy machine does not swallow it.
const TTL: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);
const MILLISECOND: Duration = Duration::from_millis(1);

async fn absent_at_its_deadline(cx: Context) -> Verdict {
    for millis in [1, 2, 300, 999, 1_000, 1_001, 1_500, 59_999, 86_400_000] {
        let ttl = Duration::from_millis(millis);
        cx.set_ttl(["k"], "v", ttl).await?;
        cx.expect(["k"], "v").await?;
        cx.pass(ttl.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
        cx.pass(MILLISECOND).await;
        cx.expect_absent(["k"]).await?;
        cx.pass(LONG).await;
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn expires(cx: Context) -> Verdict {
    cx.set_ttl(["short"], "v", MILLISECOND).await?;
    cx.set_ttl(["k"], "v", TTL).await?;
    cx.outlive(TTL).await;
    cx.expect_absent(["short"]).await?;
    cx.expect_absent(["k"]).await
}

async fn not_before_its_time(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(1_500);
    let until = cx.now() + ttl;
    cx.set_ttl(["k"], "v", ttl).await?;
    for _ in 0..4 {
        cx.expect_until(["k"], "v", until).await?;
        cx.pass(Duration::from_millis(330)).await;
    }
    cx.expect_until(["k"], "v", until).await
}

async fn each_at_its_own(cx: Context) -> Verdict {
    let names: Vec<String> = (1..=50).map(|at| at.to_string()).collect();
    // Written in another order than they go.
    for (at, name) in names.iter().enumerate().rev() {
        cx.set_ttl(["wave", name], "v", Duration::from_millis(10) * u32::try_from(at + 1).unwrap_or(u32::MAX)).await?;
    }
    for gone in 1..=names.len() {
        cx.pass(Duration::from_millis(10)).await;
        for (at, name) in names.iter().enumerate() {
            let there = cx.get(["wave", name]).await?.is_some();
            ensure_eq!(there, at >= gone, "whether entry {name} of 50 is there after {gone}0 ms");
        }
    }
    Ok(())
}

async fn without_one_it_stays(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    // Beside one that goes, which must not take it along.
    cx.set_ttl(["other"], "v", TTL).await?;
    cx.outlive(TTL).await;
    cx.expect(["k"], "v").await?;
    if cx.moves_clock() {
        cx.pass(Duration::from_secs(100 * 365 * 86_400)).await;
        cx.expect(["k"], "v").await?;
    }
    Ok(())
}

async fn a_month_is_not_short(cx: Context) -> Verdict {
    let month = Duration::from_secs(31 * 86_400);
    cx.set_ttl(["k"], "v", month).await?;
    cx.expect(["k"], "v").await?;
    if cx.moves_clock() {
        cx.pass(month.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
        cx.pass(MILLISECOND).await;
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn rounds_up(cx: Context) -> Verdict {
    for (nanos, millis) in [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (300_400_000, 301)] {
        cx.set_ttl(["k"], "v", Duration::from_nanos(nanos)).await?;
        cx.pass(Duration::from_millis(millis - 1)).await;
        ensure!(cx.get(["k"]).await?.is_some(), "{nanos} ns were over after {} ms", millis - 1);
        cx.pass(MILLISECOND).await;
        ensure!(cx.get(["k"]).await?.is_none(), "{nanos} ns were not over after {millis} ms");
    }
    Ok(())
}

async fn parts_of_seconds(cx: Context) -> Verdict {
    for millis in [250, 1_250, 1_999, 2_001, 10_500] {
        cx.set_ttl(["k"], "v", Duration::from_millis(millis)).await?;
        cx.pass(Duration::from_millis(millis - 1)).await;
        ensure!(cx.get(["k"]).await?.is_some(), "{millis} ms were over a millisecond too early");
        cx.pass(MILLISECOND).await;
        ensure!(cx.get(["k"]).await?.is_none(), "{millis} ms were not over after {millis} ms");
    }
    Ok(())
}

async fn at_a_moment(cx: Context) -> Verdict {
    let moment = cx.now() + Duration::from_millis(1_234);
    cx.set_with(["k"], "v", expiring(Expiry::At(moment))).await?;
    cx.pass(Duration::from_millis(1_233)).await;
    cx.expect(["k"], "v").await?;
    cx.pass(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn overwrite_without_one_clears_it(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.set(["k"], "new").await?;
    cx.outlive(TTL).await;
    cx.expect(["k"], "new").await
}

async fn overwrite_with_a_longer_one(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.set_ttl(["k"], "new", LONG).await?;
    cx.outlive(TTL).await;
    cx.expect(["k"], "new").await
}

async fn overwrite_with_a_shorter_one(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", LONG).await?;
    cx.set_ttl(["k"], "new", TTL).await?;
    cx.outlive(TTL).await;
    cx.expect_absent(["k"]).await
}

async fn the_clock_starts_at_each_write(cx: Context) -> Verdict {
    for _ in 0..3 {
        cx.set_ttl(["k"], "v", TTL).await?;
        cx.pass(TTL.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
    }
    cx.pass(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn keep_keeps_it(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "old", TTL).await?;
    for value in ["one", "two"] {
        cx.set_with(["k"], value, expiring(Expiry::Keep)).await?;
        // Where the time is over by now, this write was one on an expired key, which makes it permanent.
        if cx.is_before(until) {
            cx.expect_until(["k"], value, until).await?;
        }
    }
    let was_in_time = cx.is_before(until);
    cx.outlive(TTL).await;
    if was_in_time {
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn keep_keeps_none(cx: Context) -> Verdict {
    // A deadline that was there before the last write is not what is kept.
    cx.set_ttl(["k"], "first", TTL).await?;
    cx.set(["k"], "permanent").await?;
    cx.set_with(["k"], "kept", expiring(Expiry::Keep)).await?;
    cx.outlive(TTL).await;
    cx.expect(["k"], "kept").await
}

async fn keep_on_absent_is_never(cx: Context) -> Verdict {
    cx.set_with(["new"], "v", expiring(Expiry::Keep)).await?;
    cx.set_ttl(["deleted"], "old", TTL).await?;
    cx.delete(["deleted"]).await?;
    cx.set_with(["deleted"], "v", expiring(Expiry::Keep)).await?;
    cx.outlive(TTL).await;
    cx.expect(["new"], "v").await?;
    cx.expect(["deleted"], "v").await
}

async fn keep_on_expired_is_never(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.outlive(TTL).await;
    cx.set_with(["k"], "new", expiring(Expiry::Keep)).await?;
    cx.expect(["k"], "new").await?;
    cx.outlive(TTL).await;
    cx.expect(["k"], "new").await
}

async fn zero_is_absent(cx: Context) -> Verdict {
    // It must be as stored: `set_with` fails for a refusal.
    cx.set_ttl(["k"], "v", Duration::ZERO).await?;
    cx.expect_absent(["k"]).await?;
    ensure!(!cx.delete(["k"]).await?, "deleting what was written with a ttl of zero removed something");
    cx.pass(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn zero_removes_what_was_there(cx: Context) -> Verdict {
    cx.set(["k"], "old").await?;
    cx.set_ttl(["k"], "new", Duration::ZERO).await?;
    cx.expect_absent(["k"]).await
}

async fn zero_is_judged_first(cx: Context) -> Verdict {
    let zero = |when| expiring(Expiry::After(Duration::ZERO)).with_when(when);
    cx.set(["k"], "old").await?;
    let refused = cx.store().set(&key(["k"]), "new".into(), &zero(When::Absent)).await?;
    ensure!(!refused.is_stored(), "a ttl of zero ignored the condition Absent over a live entry");
    cx.expect(["k"], "old").await?;
    let refused = cx.store().set(&key(["missing"]), "new".into(), &zero(When::Present)).await?;
    ensure_eq!(
        refused,
        SetOutcome::Refused { current: None },
        "the outcome of a ttl of zero under Present on an absent key"
    );
    cx.set_with(["k"], "new", zero(When::Present)).await?;
    cx.expect_absent(["k"]).await
}

async fn the_past_is_absent(cx: Context) -> Verdict {
    let now = cx.now();
    let moments = [1, 3_600, 50 * 365 * 86_400].map(|seconds| now - Duration::from_secs(seconds));
    for moment in moments.into_iter().chain([SystemTime::UNIX_EPOCH]) {
        cx.set(["k"], "old").await?;
        cx.set_with(["k"], "new", expiring(Expiry::At(moment))).await?;
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn now_is_absent(cx: Context) -> Verdict {
    cx.set_with(["k"], "v", expiring(Expiry::At(cx.now()))).await?;
    cx.expect_absent(["k"]).await
}

async fn the_longest_is_never(cx: Context) -> Verdict {
    let longest = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_millis(u64::MAX),
        Duration::from_secs(u64::MAX / 1_000),
    ];
    for (at, ttl) in longest.into_iter().enumerate() {
        let name = at.to_string();
        cx.set_ttl(["k", &name], "v", ttl).await?;
        cx.expect(["k", &name], "v").await?;
        stays_for_ever(&cx, &name).await?;
    }
    Ok(())
}

async fn the_farthest_moment_is_never(cx: Context) -> Verdict {
    // Some years that a store's number of nano-, micro- or milliseconds may not reach; not every clock does either.
    for (at, years) in [300, 10_000, 300_000, 200_000_000_000_u64].into_iter().enumerate() {
        let name = at.to_string();
        let Some(moment) = cx.now().checked_add(Duration::from_secs(years * 31_556_952)) else { continue };
        cx.set_with(["k", &name], "v", expiring(Expiry::At(moment))).await?;
        cx.expect(["k", &name], "v").await?;
        if years > 10_000 {
            stays_for_ever(&cx, &name).await?;
        }
    }
    Ok(())
}

/// Where deadlines read back, there is none.
async fn stays_for_ever(cx: &Context, name: &str) -> Verdict {
    if cx.has(Capability::Deadlines) {
        ensure_eq!(cx.entry(["k", name]).await?.expires, kv_core::Expires::Never, "the deadline of {name}");
    }
    Ok(())
}

async fn a_condition_sets_it(cx: Context) -> Verdict {
    cx.set_with(["new"], "v", expiring(Expiry::After(TTL)).with_when(When::Absent)).await?;
    cx.set(["old"], "v").await?;
    cx.set_with(["old"], "w", expiring(Expiry::After(TTL)).with_when(When::Value("v".into()))).await?;
    cx.outlive(TTL).await;
    cx.expect_absent(["new"]).await?;
    cx.expect_absent(["old"]).await
}

async fn a_refusal_leaves_it(cx: Context) -> Verdict {
    cx.set(["permanent"], "v").await?;
    cx.set_ttl(["long"], "v", LONG).await?;
    for name in ["permanent", "long"] {
        let options = expiring(Expiry::After(TTL)).with_when(When::Absent);
        let outcome = cx.store().set(&key([name]), "new".into(), &options).await?;
        ensure!(!outcome.is_stored(), "Absent was stored over a live entry");
    }
    cx.outlive(TTL).await;
    cx.expect(["permanent"], "v").await?;
    cx.expect(["long"], "v").await
}

async fn each_of_a_batch_its_own(cx: Context) -> Verdict {
    let item = |name, expiry| SetItem::new(key([name]), "v").with_options(expiring(expiry));
    let expiries = [
        ("short", Expiry::After(TTL)),
        ("never", Expiry::Never),
        ("long", Expiry::After(LONG)),
        ("zero", Expiry::After(Duration::ZERO)),
    ];
    cx.set_many(&expiries.map(|(name, expiry)| item(name, expiry))).await?;
    cx.expect_absent(["zero"]).await?;
    cx.outlive(TTL).await;
    cx.expect_absent(["short"]).await?;
    cx.expect(["never"], "v").await?;
    cx.expect(["long"], "v").await
}

async fn reading_does_not_extend(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", TTL).await?;
    for _ in 0..TTL.as_millis() {
        cx.expect(["k"], "v").await?;
        let many = cx.store().get_many(&[key(["k"])]).await;
        ensure!(matches!(many.as_slice(), [Ok(Some(_))]), "get_many finds nothing before the deadline");
        if cx.has(Capability::List) {
            ensure_eq!(
                cx.list_all(kv_core::ListQuery::default()).await?.len(),
                1,
                "what is listed before the deadline"
            );
        }
        cx.pass(MILLISECOND).await;
    }
    cx.expect_absent(["k"]).await
}

async fn written_again_it_stays(cx: Context) -> Verdict {
    for expiry in [Expiry::Never, Expiry::After(LONG)] {
        cx.set_ttl(["k"], "old", TTL).await?;
        cx.outlive(TTL).await;
        cx.set_with(["k"], "new", expiring(expiry)).await?;
        cx.outlive(TTL).await;
        cx.expect(["k"], "new").await?;
    }
    Ok(())
}

fn expiring(expiry: Expiry) -> SetOptions {
    SetOptions::default().with_expiry(expiry)
}
