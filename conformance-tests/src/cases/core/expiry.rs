//! Time to live: the moment when an entry expires, and the effect of writes on its deadline.

use std::time::{Duration, SystemTime};

use kv_core::{Capability, Expiry, KvStore, SetItem, SetOptions, SetOutcome, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { expiry, Core:
    absent_at_its_deadline: "T-1" [Need::Clock] "an entry is live one millisecond before its deadline and absent from the deadline on";
    expires: "T-1" [] "an entry is absent after its time to live, however short that is";
    not_before_its_time: "T-2" [] "an entry stays live for its whole time to live: 1.5 s are not rounded to 1 s";
    each_at_its_own: "T-1" [Need::Clock] "entries that were written together expire one by one, each at its own deadline";
    without_one_it_stays: "S-1" [] "an entry without a deadline stays";
    a_month_is_not_short: "T-2" [] "a time to live of 31 days does not overflow: the entry is live, and expires after 31 days if the clock can be set";
    rounds_up: "T-3" [Need::Clock] "a fraction of a millisecond counts as a whole millisecond";
    parts_of_seconds: "T-3" [Need::Clock] "deadlines are not rounded to seconds: one millisecond makes a difference";
    at_a_moment: "T-1" [Need::Clock] "an entry with `Expiry::At` expires at that moment";
    overwrite_without_one_clears_it: "S-1" [] "a write without a deadline makes the entry permanent";
    overwrite_with_a_longer_one: "S-1" [] "the longer time to live of an overwrite counts from the overwrite";
    overwrite_with_a_shorter_one: "S-1" [] "an overwrite with a shorter time to live makes the entry expire before the old deadline";
    the_clock_starts_at_each_write: "S-1" [Need::Clock] "the time to live of each write counts from that write";
    keep_keeps_it: "S-1" [] "`Expiry::Keep` writes the value and keeps the deadline";
    keep_keeps_none: "S-1" [] "`Expiry::Keep` leaves a permanent entry permanent";
    keep_on_absent_is_never: "S-1" [] "`Expiry::Keep` on an absent key makes a permanent entry";
    keep_on_expired_is_never: "S-1" [] "`Expiry::Keep` on an expired key makes a permanent entry";
    zero_is_absent: "T-3" [] "a `set` with a time to live of zero reports stored, and the key is absent";
    zero_removes_what_was_there: "T-3" [] "a `set` with a time to live of zero removes the existing entry";
    zero_is_judged_first: "T-3" [Need::Has(Capability::Conditions)] "the condition of a `set` with a time to live of zero is checked as usual";
    the_past_is_absent: "T-3" [] "a deadline in the past leaves the key absent, as a time to live of zero does";
    now_is_absent: "T-3" [Need::Clock] "a deadline that is exactly now leaves the key absent";
    the_longest_is_never: "T-3" [] "`Duration::MAX` and durations that cannot be represented make a permanent entry, and are no error";
    the_farthest_moment_is_never: "T-3" [] "a deadline that cannot be represented makes a permanent entry";
    a_condition_sets_it: "S-1" [Need::Has(Capability::Conditions)] "a conditional write sets its deadline as usual";
    a_refusal_leaves_it: "S-2" [Need::Has(Capability::Conditions)] "a refused write does not change the deadline";
    each_of_a_batch_its_own: "B-1" [] "each item of `set_many` has its own deadline";
    reading_does_not_extend: "T-5" [Need::Clock] "reads do not move a deadline";
    written_again_it_stays: "S-1" [] "a key that is written again after it expired does not expire at the old deadline";
}

/// A time to live that is short enough to wait for, and long enough that a busy machine reads the entry before its
/// deadline.
const TTL: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);
const MILLISECOND: Duration = Duration::from_millis(1);

async fn absent_at_its_deadline(cx: Context) -> Verdict {
    for millis in [1, 2, 300, 999, 1_000, 1_001, 1_500, 59_999, 86_400_000] {
        let ttl = Duration::from_millis(millis);
        cx.set_ttl(["k"], "v", ttl).await?;
        cx.expect(["k"], "v").await?;
        cx.advance(ttl.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
        cx.advance(MILLISECOND).await;
        cx.expect_absent(["k"]).await?;
        cx.advance(LONG).await;
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn expires(cx: Context) -> Verdict {
    cx.set_ttl(["short"], "v", MILLISECOND).await?;
    cx.set_ttl(["k"], "v", TTL).await?;
    cx.advance_past(TTL).await;
    cx.expect_absent(["short"]).await?;
    cx.expect_absent(["k"]).await
}

async fn not_before_its_time(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(1_500);
    let until = cx.now() + ttl;
    cx.set_ttl(["k"], "v", ttl).await?;
    for _ in 0..4 {
        cx.expect_until(["k"], "v", until).await?;
        cx.advance(Duration::from_millis(330)).await;
    }
    cx.expect_until(["k"], "v", until).await
}

async fn each_at_its_own(cx: Context) -> Verdict {
    let names: Vec<String> = (1..=50).map(|at| at.to_string()).collect();
    // The entries are written in reverse order of their deadlines.
    for (at, name) in names.iter().enumerate().rev() {
        cx.set_ttl(["wave", name], "v", Duration::from_millis(10) * u32::try_from(at + 1).unwrap_or(u32::MAX)).await?;
    }
    for expired in 1..=names.len() {
        cx.advance(Duration::from_millis(10)).await;
        for (at, name) in names.iter().enumerate() {
            let is_live = cx.get(["wave", name]).await?.is_some();
            let (expected, found) = if is_live { ("expired", "it") } else { ("live", "nothing") };
            ensure!(
                is_live == (at >= expired),
                "expected entry {name} of 50 to be {expected} after {expired}0 ms, but `get` found {found}"
            );
        }
    }
    Ok(())
}

async fn without_one_it_stays(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    // The expiry of another entry must not remove this one.
    cx.set_ttl(["other"], "v", TTL).await?;
    cx.advance_past(TTL).await;
    cx.expect(["k"], "v").await?;
    if cx.moves_clock() {
        cx.advance(Duration::from_secs(100 * 365 * 86_400)).await;
        cx.expect(["k"], "v").await?;
    }
    Ok(())
}

async fn a_month_is_not_short(cx: Context) -> Verdict {
    let month = Duration::from_secs(31 * 86_400);
    cx.set_ttl(["k"], "v", month).await?;
    cx.expect(["k"], "v").await?;
    if cx.moves_clock() {
        cx.advance(month.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
        cx.advance(MILLISECOND).await;
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn rounds_up(cx: Context) -> Verdict {
    for (nanos, millis) in [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (300_400_000, 301)] {
        cx.set_ttl(["k"], "v", Duration::from_nanos(nanos)).await?;
        cx.advance(Duration::from_millis(millis - 1)).await;
        ensure!(
            cx.get(["k"]).await?.is_some(),
            "`get` found nothing {} ms after a `set` with a time to live of {nanos} ns: it expired too early",
            millis - 1
        );
        cx.advance(MILLISECOND).await;
        ensure!(
            cx.get(["k"]).await?.is_none(),
            "`get` still found an entry {millis} ms after a `set` with a time to live of {nanos} ns"
        );
    }
    Ok(())
}

async fn parts_of_seconds(cx: Context) -> Verdict {
    for millis in [250, 1_250, 1_999, 2_001, 10_500] {
        cx.set_ttl(["k"], "v", Duration::from_millis(millis)).await?;
        cx.advance(Duration::from_millis(millis - 1)).await;
        ensure!(
            cx.get(["k"]).await?.is_some(),
            "`get` found nothing one millisecond before the end of a time to live of {millis} ms"
        );
        cx.advance(MILLISECOND).await;
        ensure!(cx.get(["k"]).await?.is_none(), "`get` still found an entry after its time to live of {millis} ms");
    }
    Ok(())
}

async fn at_a_moment(cx: Context) -> Verdict {
    let moment = cx.now() + Duration::from_millis(1_234);
    cx.set_with(["k"], "v", expiring(Expiry::At(moment))).await?;
    cx.advance(Duration::from_millis(1_233)).await;
    cx.expect(["k"], "v").await?;
    cx.advance(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn overwrite_without_one_clears_it(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.set(["k"], "new").await?;
    cx.advance_past(TTL).await;
    cx.expect(["k"], "new").await
}

async fn overwrite_with_a_longer_one(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.set_ttl(["k"], "new", LONG).await?;
    cx.advance_past(TTL).await;
    cx.expect(["k"], "new").await
}

async fn overwrite_with_a_shorter_one(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", LONG).await?;
    cx.set_ttl(["k"], "new", TTL).await?;
    cx.advance_past(TTL).await;
    cx.expect_absent(["k"]).await
}

async fn the_clock_starts_at_each_write(cx: Context) -> Verdict {
    for _ in 0..3 {
        cx.set_ttl(["k"], "v", TTL).await?;
        cx.advance(TTL.saturating_sub(MILLISECOND)).await;
        cx.expect(["k"], "v").await?;
    }
    cx.advance(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn keep_keeps_it(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "old", TTL).await?;
    for value in ["one", "two"] {
        cx.set_with(["k"], value, expiring(Expiry::Keep)).await?;
        // If the deadline has passed by now, this write may have found an expired entry. The new entry is then
        // permanent.
        if cx.is_before(until) {
            cx.expect_until(["k"], value, until).await?;
        }
    }
    let was_in_time = cx.is_before(until);
    cx.advance_past(TTL).await;
    if was_in_time {
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn keep_keeps_none(cx: Context) -> Verdict {
    // `Keep` must not restore a deadline from before the last write.
    cx.set_ttl(["k"], "first", TTL).await?;
    cx.set(["k"], "permanent").await?;
    cx.set_with(["k"], "kept", expiring(Expiry::Keep)).await?;
    cx.advance_past(TTL).await;
    cx.expect(["k"], "kept").await
}

async fn keep_on_absent_is_never(cx: Context) -> Verdict {
    cx.set_with(["new"], "v", expiring(Expiry::Keep)).await?;
    cx.set_ttl(["deleted"], "old", TTL).await?;
    cx.delete(["deleted"]).await?;
    cx.set_with(["deleted"], "v", expiring(Expiry::Keep)).await?;
    cx.advance_past(TTL).await;
    cx.expect(["new"], "v").await?;
    cx.expect(["deleted"], "v").await
}

async fn keep_on_expired_is_never(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.advance_past(TTL).await;
    cx.set_with(["k"], "new", expiring(Expiry::Keep)).await?;
    cx.expect(["k"], "new").await?;
    cx.advance_past(TTL).await;
    cx.expect(["k"], "new").await
}

async fn zero_is_absent(cx: Context) -> Verdict {
    // The set must report stored: `set_with` fails if it is refused.
    cx.set_ttl(["k"], "v", Duration::ZERO).await?;
    cx.expect_absent(["k"]).await?;
    ensure!(!cx.delete(["k"]).await?, "`delete` removed an entry that was set with a time to live of zero");
    cx.advance(MILLISECOND).await;
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
    ensure!(!refused.is_stored(), "`set` with `When::Absent` and a time to live of zero was stored over a live entry");
    cx.expect(["k"], "old").await?;
    let refused = cx.store().set(&key(["missing"]), "new".into(), &zero(When::Present)).await?;
    ensure_eq!(
        refused,
        SetOutcome::Refused { current: None },
        "the outcome of `set` with `When::Present` and a time to live of zero on an absent key"
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
        expect_no_deadline(&cx, &name).await?;
    }
    Ok(())
}

async fn the_farthest_moment_is_never(cx: Context) -> Verdict {
    // Numbers of years that overflow a store's nanoseconds, microseconds or milliseconds. Some clocks overflow as well.
    for (at, years) in [300, 10_000, 300_000, 200_000_000_000_u64].into_iter().enumerate() {
        let name = at.to_string();
        let Some(moment) = cx.now().checked_add(Duration::from_secs(years * 31_556_952)) else { continue };
        cx.set_with(["k", &name], "v", expiring(Expiry::At(moment))).await?;
        cx.expect(["k", &name], "v").await?;
        if years > 10_000 {
            expect_no_deadline(&cx, &name).await?;
        }
    }
    Ok(())
}

/// Fails unless the entry has no deadline, if the store shows deadlines.
async fn expect_no_deadline(cx: &Context, name: &str) -> Verdict {
    if cx.has(Capability::Deadlines) {
        let expires = cx.entry(["k", name]).await?.expires;
        ensure_eq!(expires, kv_core::Expires::Never, "the deadline that `get` returned for entry {name}");
    }
    Ok(())
}

async fn a_condition_sets_it(cx: Context) -> Verdict {
    cx.set_with(["new"], "v", expiring(Expiry::After(TTL)).with_when(When::Absent)).await?;
    cx.set(["old"], "v").await?;
    cx.set_with(["old"], "w", expiring(Expiry::After(TTL)).with_when(When::Value("v".into()))).await?;
    cx.advance_past(TTL).await;
    cx.expect_absent(["new"]).await?;
    cx.expect_absent(["old"]).await
}

async fn a_refusal_leaves_it(cx: Context) -> Verdict {
    cx.set(["permanent"], "v").await?;
    cx.set_ttl(["long"], "v", LONG).await?;
    for name in ["permanent", "long"] {
        let options = expiring(Expiry::After(TTL)).with_when(When::Absent);
        let outcome = cx.store().set(&key([name]), "new".into(), &options).await?;
        ensure!(!outcome.is_stored(), "`set` with `When::Absent` was stored over a live entry, but should be refused");
    }
    cx.advance_past(TTL).await;
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
    cx.advance_past(TTL).await;
    cx.expect_absent(["short"]).await?;
    cx.expect(["never"], "v").await?;
    cx.expect(["long"], "v").await
}

async fn reading_does_not_extend(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", TTL).await?;
    for _ in 0..TTL.as_millis() {
        cx.expect(["k"], "v").await?;
        let many = cx.store().get_many(&[key(["k"])]).await;
        ensure!(matches!(many.as_slice(), [Ok(Some(_))]), "`get_many` found no entry before the deadline");
        if cx.has(Capability::List) {
            let count = cx.list_all(kv_core::ListQuery::default()).await?.len();
            ensure_eq!(count, 1, "the number of items that `list` returned before the deadline");
        }
        cx.advance(MILLISECOND).await;
    }
    cx.expect_absent(["k"]).await
}

async fn written_again_it_stays(cx: Context) -> Verdict {
    for expiry in [Expiry::Never, Expiry::After(LONG)] {
        cx.set_ttl(["k"], "old", TTL).await?;
        cx.advance_past(TTL).await;
        cx.set_with(["k"], "new", expiring(expiry)).await?;
        cx.advance_past(TTL).await;
        cx.expect(["k"], "new").await?;
    }
    Ok(())
}

fn expiring(expiry: Expiry) -> SetOptions {
    SetOptions::default().with_expiry(expiry)
}
