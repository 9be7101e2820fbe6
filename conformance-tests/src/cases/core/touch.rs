//! `touch` moves a deadline without writing the value.

use std::time::{Duration, SystemTime};

use kv_core::{Capability, Deadline, Expires, IncrementOptions, KvStore, NewExpiry};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { touch, Core:
    longer: "T-5" [Need::Has(Capability::Touch)] "a longer time to live keeps the entry live after its old deadline";
    shorter: "T-5" [Need::Has(Capability::Touch)] "a shorter time to live expires the entry before its old deadline";
    never: "T-5" [Need::Has(Capability::Touch)] "`Never` makes an entry with a deadline permanent";
    a_permanent_one: "T-5" [Need::Has(Capability::Touch)] "a permanent entry gets a deadline";
    zero: "T-3" [Need::Has(Capability::Touch)] "`touch` with a time to live of zero returns true, and the entry is then absent";
    the_past: "T-3" [Need::Has(Capability::Touch)] "`touch` with a deadline in the past returns true, and the entry is then absent";
    the_longest: "T-3" [Need::Has(Capability::Touch)] "`touch` with `Duration::MAX` makes the entry permanent";
    to_a_moment: "T-5" [Need::Has(Capability::Touch), Need::Clock] "`touch` with `Expiry::At` sets exactly that deadline, to the millisecond";
    from_now_on: "T-5" [Need::Has(Capability::Touch), Need::Clock] "the new time to live counts from the touch, not from the write";
    again_and_again: "T-5" [Need::Has(Capability::Touch), Need::Clock] "an entry that is touched before each deadline stays live";
    of_nothing: "T-5" [Need::Has(Capability::Touch)] "`touch` of an absent key returns false and creates nothing";
    of_a_deleted_one: "T-5" [Need::Has(Capability::Touch)] "`touch` of a deleted key returns false and does not revive the entry";
    the_value_stays: "T-5" [Need::Has(Capability::Touch)] "`touch` keeps the value, whatever its size";
    the_version_stays: "T-5" [Need::Has(Capability::Touch), Need::Has(Capability::Versions)] "`touch` keeps the version";
    a_counter: "T-5" [Need::Has(Capability::Touch), Need::Has(Capability::Counters)] "`touch` keeps the number of a counter";
    reads_back: "T-4" [Need::Has(Capability::Touch), Need::Has(Capability::Deadlines)] "`get` shows the new deadline, or Never";
    only_this_key: "T-5" [Need::Has(Capability::Touch)] "siblings, parents and children of the key keep their deadlines";
}

const TTL: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

async fn longer(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "v", TTL).await?;
    let found = touch(&cx, NewExpiry::After(LONG)).await?;
    if !found && !cx.is_before(until) {
        return Ok(());
    }
    ensure!(found, "`touch` returned false for a live entry");
    cx.advance_past(TTL).await;
    cx.expect(["k"], "v").await
}

async fn shorter(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", LONG).await?;
    ensure!(touch(&cx, NewExpiry::After(TTL)).await?, "`touch` returned false for a live entry");
    cx.advance_past(TTL).await;
    cx.expect_absent(["k"]).await
}

async fn never(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "v", TTL).await?;
    let found = touch(&cx, NewExpiry::Never).await?;
    if !found && !cx.is_before(until) {
        return Ok(());
    }
    ensure!(found, "`touch` returned false for a live entry");
    cx.advance_past(TTL).await;
    cx.expect(["k"], "v").await
}

async fn a_permanent_one(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    ensure!(touch(&cx, NewExpiry::After(TTL)).await?, "`touch` returned false for a permanent entry");
    cx.advance_past(TTL).await;
    cx.expect_absent(["k"]).await
}

async fn zero(cx: Context) -> Verdict {
    expires_at_once(&cx, NewExpiry::After(Duration::ZERO)).await
}

async fn the_past(cx: Context) -> Verdict {
    expires_at_once(&cx, NewExpiry::At(cx.now() - LONG)).await?;
    expires_at_once(&cx, NewExpiry::At(SystemTime::UNIX_EPOCH)).await
}

async fn expires_at_once(cx: &Context, expiry: NewExpiry) -> Verdict {
    cx.set(["k"], "v").await?;
    ensure!(touch(cx, expiry).await?, "`touch` with {expiry:?} returned false for a live entry");
    cx.expect_absent(["k"]).await?;
    ensure!(
        !touch(cx, NewExpiry::Never).await?,
        "`touch` returned true for an entry that an earlier `touch` with {expiry:?} had expired"
    );
    cx.expect_absent(["k"]).await
}

async fn the_longest(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", LONG).await?;
    ensure!(touch(&cx, NewExpiry::After(Duration::MAX)).await?, "`touch` returned false for a live entry");
    cx.expect(["k"], "v").await?;
    if cx.has(Capability::Deadlines) {
        ensure_eq!(
            cx.entry(["k"]).await?.expires,
            Expires::Never,
            "the deadline after `touch` with the longest time to live"
        );
    }
    Ok(())
}

async fn to_a_moment(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    touch(&cx, NewExpiry::At(cx.now() + Duration::from_micros(1_499_001))).await?;
    cx.advance(Duration::from_millis(1_499)).await;
    cx.expect(["k"], "v").await?;
    cx.advance(Duration::from_millis(1)).await;
    cx.expect_absent(["k"]).await
}

async fn from_now_on(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", TTL).await?;
    cx.advance(TTL / 2).await;
    touch(&cx, NewExpiry::After(TTL)).await?;
    cx.advance(TTL.saturating_sub(Duration::from_millis(1))).await;
    cx.expect(["k"], "v").await?;
    cx.advance(Duration::from_millis(1)).await;
    cx.expect_absent(["k"]).await
}

async fn again_and_again(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", TTL).await?;
    for _ in 0..20 {
        cx.advance(TTL.saturating_sub(Duration::from_millis(1))).await;
        ensure!(touch(&cx, NewExpiry::After(TTL)).await?, "`touch` returned false before the deadline of the entry");
    }
    cx.expect(["k"], "v").await?;
    cx.advance(TTL).await;
    cx.expect_absent(["k"]).await
}

async fn of_nothing(cx: Context) -> Verdict {
    for expiry in
        [NewExpiry::Never, NewExpiry::After(LONG), NewExpiry::After(Duration::ZERO), NewExpiry::At(cx.now() + LONG)]
    {
        ensure!(!touch(&cx, expiry).await?, "`touch` returned true for a key that was never written");
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn of_a_deleted_one(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", LONG).await?;
    cx.delete(["k"]).await?;
    ensure!(!touch(&cx, NewExpiry::Never).await?, "`touch` returned true for a deleted entry");
    cx.expect_absent(["k"]).await
}

async fn the_value_stays(cx: Context) -> Verdict {
    for value in [Vec::new(), b"v".to_vec(), b"\0\xff\x01".repeat(100_000)] {
        cx.set(["k"], value.clone()).await?;
        for expiry in [NewExpiry::After(LONG), NewExpiry::Never] {
            ensure!(touch(&cx, expiry).await?, "`touch` returned false for a live entry of {} bytes", value.len());
            cx.expect(["k"], &value).await?;
        }
    }
    Ok(())
}

async fn the_version_stays(cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    for expiry in [NewExpiry::After(LONG), NewExpiry::At(cx.now() + 2 * LONG), NewExpiry::Never] {
        touch(&cx, expiry).await?;
        ensure_eq!(
            cx.entry(["k"]).await?.version,
            Some(version),
            "the version that `get` returned after `touch` with {expiry:?}"
        );
    }
    Ok(())
}

async fn a_counter(cx: Context) -> Verdict {
    cx.store().increment(&key(["k"]), 41, &IncrementOptions::default()).await?;
    ensure!(touch(&cx, NewExpiry::After(LONG)).await?, "`touch` returned false for a live counter");
    ensure_eq!(
        cx.store().increment(&key(["k"]), 1, &IncrementOptions::default()).await?,
        42,
        "the number that `increment` returned after `touch`"
    );
    Ok(())
}

async fn reads_back(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let moment = Deadline::resolve(kv_core::Expiry::At(cx.now() + LONG), cx.now(), None);
    let Expires::At(whole) = Expires::from(moment) else {
        return Err(Failure::new("the moment one hour from now does not resolve to a deadline"));
    };
    touch(&cx, NewExpiry::At(whole)).await?;
    ensure_eq!(cx.entry(["k"]).await?.expires, Expires::At(whole), "the deadline that `get` returned after `touch`");
    touch(&cx, NewExpiry::Never).await?;
    ensure_eq!(
        cx.entry(["k"]).await?.expires,
        Expires::Never,
        "the deadline that `get` returned after `touch` with Never"
    );
    Ok(())
}

async fn only_this_key(cx: Context) -> Verdict {
    let others = [key(["a"]), key(["k", ""]), key(["k", "b"]), key(["k2"]), key([""])];
    for other in &others {
        cx.set(other, "v").await?;
    }
    cx.set(["k"], "v").await?;
    touch(&cx, NewExpiry::After(Duration::ZERO)).await?;
    cx.expect_absent(["k"]).await?;
    for other in &others {
        cx.expect(other, "v").await?;
    }
    Ok(())
}

/// Touches `["k"]`.
async fn touch(cx: &Context, expiry: NewExpiry) -> Result<bool, Failure> {
    Ok(cx.store().touch(&key(["k"]), expiry).await?)
}
