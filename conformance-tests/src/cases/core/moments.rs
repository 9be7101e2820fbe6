//! Cases about deadlines: precision within a second, deadlines set by every kind of write, and the background sweep.

use std::time::{Duration, SystemTime};

use kv_core::{
    Capability, Expires, Expiry, IncrementOptions, KvStore, NewExpiry, SetItem, SetOptions, SetOutcome, Transaction,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

const COUNTERS: Need = Need::Has(Capability::Counters);
const DEADLINES: Need = Need::Has(Capability::Deadlines);
const PREVIOUS: Need = Need::Has(Capability::Previous);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);

const TTL: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

cases! { moments, Core:
    late_in_a_second: "T-2" [Need::Clock] "an entry lives exactly for its time to live, at whatever part of a second it was written";
    seconds_carry: "T-4" [Need::Clock, DEADLINES] "the deadline that reads back carries milliseconds into seconds";
    touched_late_in_a_second: "T-5" [Need::Clock, Need::Has(Capability::Touch)] "`touch` at any part of a second gives exactly the new time to live";
    before_1970: "T-3" [] "a deadline before 1970 leaves the key absent, in `set` and in `touch`";
    in_a_batch: "B-1" [] "an item of `set_many` whose deadline has passed reports stored, and the key is absent";
    in_a_transaction: "X-1" [TRANSACTIONS] "a set of a transaction whose deadline has passed leaves the key absent";
    of_a_new_counter: "C-1" [COUNTERS] "an `increment` that creates a counter whose deadline has passed returns its amount, and the key is absent";
    at_a_moment_in_a_transaction: "X-1" [TRANSACTIONS, Need::Clock] "a set of a transaction with `Expiry::At` expires at that moment, to the millisecond";
    at_a_moment_for_a_counter: "C-1" [COUNTERS, Need::Clock] "a counter that is created with `Expiry::At` expires at that moment, to the millisecond";
    kept_in_a_batch: "S-1" [] "an item of `set_many` with `Expiry::Keep` keeps the deadline";
    kept_after_a_delete: "X-1" [TRANSACTIONS] "in a transaction, a set with `Expiry::Keep` after a delete of the key makes a permanent entry";
    kept_after_a_set_in_the_past: "X-1" [TRANSACTIONS] "in a transaction, a set with `Expiry::Keep` after a set whose deadline has passed makes a permanent entry";
    previous_of_a_set_in_the_past: "S-2" [PREVIOUS] "a `set` with `return_previous` whose deadline has passed returns the entry that it removed";
    no_deadlines_are_made_up: "T-4" [Need::Lacks(Capability::Deadlines)] "a store without deadlines shows Never or Unknown for a permanent entry";
    swept_without_a_call: "T-6" [Need::Clock] "expired entries are removed without a call of `sweep`";
}

/// The parts of a second at which the cases write, in milliseconds.
const PARTS: [u64; 5] = [1, 499, 500, 789, 999];

/// Advances the clock to this part of a second.
async fn advance_to(cx: &Context, part: u64) {
    let since = cx.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    cx.advance(Duration::from_millis((1_000 + part - u64::from(since.subsec_millis())) % 1_000)).await;
}

const TTLS: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(300), Duration::from_secs(1), Duration::from_millis(2_211)];

const MILLISECOND: Duration = Duration::from_millis(1);

/// Fails unless the key is live until one millisecond before the time to live ends, and absent at its end.
async fn expect_exactly(cx: &Context, ttl: Duration) -> Verdict {
    cx.advance(ttl.saturating_sub(MILLISECOND)).await;
    cx.expect(["k"], "v").await?;
    cx.advance(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn late_in_a_second(cx: Context) -> Verdict {
    for part in PARTS {
        for ttl in TTLS {
            advance_to(&cx, part).await;
            cx.set_ttl(["k"], "v", ttl).await?;
            expect_exactly(&cx, ttl).await?;
            advance_to(&cx, part).await;
            let at = Expiry::At(cx.now() + ttl);
            cx.set_with(["k"], "v", SetOptions::default().with_expiry(at)).await?;
            expect_exactly(&cx, ttl).await?;
        }
    }
    Ok(())
}

async fn seconds_carry(cx: Context) -> Verdict {
    for part in PARTS {
        for ttl in TTLS {
            advance_to(&cx, part).await;
            cx.set_ttl(["k"], "v", ttl).await?;
            ensure_eq!(
                cx.entry(["k"]).await?.expires,
                Expires::At(cx.now() + ttl),
                "the deadline of an entry that was written for {ttl:?} at {part} ms of a second"
            );
        }
    }
    Ok(())
}

async fn touched_late_in_a_second(cx: Context) -> Verdict {
    for part in PARTS {
        for ttl in TTLS {
            cx.set(["k"], "v").await?;
            advance_to(&cx, part).await;
            let found = cx.store().touch(&key(["k"]), NewExpiry::After(ttl)).await?;
            ensure!(found, "`touch` returned false for a live entry");
            expect_exactly(&cx, ttl).await?;
        }
    }
    Ok(())
}

async fn before_1970(cx: Context) -> Verdict {
    for before in [Duration::from_millis(1), Duration::from_secs(100 * 365 * 86_400)] {
        let moment = SystemTime::UNIX_EPOCH - before;
        cx.set(["k"], "old").await?;
        cx.set_with(["k"], "never there", SetOptions::default().with_expiry(Expiry::At(moment))).await?;
        cx.expect_absent(["k"]).await?;
        if cx.has(Capability::Touch) {
            cx.set(["k"], "old").await?;
            let found = cx.store().touch(&key(["k"]), NewExpiry::At(moment)).await?;
            ensure!(found, "`touch` to a moment before 1970 returned false for a live entry");
            cx.expect_absent(["k"]).await?;
        }
    }
    Ok(())
}

/// The expiries that leave a key absent at once.
fn passed(cx: &Context) -> [Expiry; 2] {
    [Expiry::After(Duration::ZERO), Expiry::At(cx.now() - LONG)]
}

async fn in_a_batch(cx: Context) -> Verdict {
    for past in passed(&cx) {
        cx.set(["live"], "old").await?;
        let options = SetOptions::default().with_expiry(past);
        let item = |name| SetItem::new(key([name]), "never there").with_options(options.clone());
        cx.set_many(&[item("live"), SetItem::new(key(["between"]), "v"), item("absent")]).await?;
        cx.expect_absent(["live"]).await?;
        cx.expect_absent(["absent"]).await?;
        cx.expect(["between"], "v").await?;
    }
    Ok(())
}

/// A key in the single transaction group of this file.
fn grouped(name: &str) -> kv_core::Key {
    key(["g", "g", "g", "g", name])
}

async fn commit(cx: &Context, transaction: Transaction) -> Verdict {
    let outcome = cx.store().commit(&transaction).await?;
    ensure!(outcome.is_committed(), "expected `commit` without checks to be committed, but it returned {outcome:?}");
    Ok(())
}

async fn in_a_transaction(cx: Context) -> Verdict {
    for past in passed(&cx) {
        cx.set(grouped("live"), "old").await?;
        let sets = Transaction::new().set(grouped("live"), "never there", past);
        commit(&cx, sets.set(grouped("absent"), "never there", past).set(grouped("v"), "v", Expiry::Never)).await?;
        cx.expect_absent(grouped("live")).await?;
        cx.expect_absent(grouped("absent")).await?;
        cx.expect(grouped("v"), "v").await?;
    }
    Ok(())
}

async fn of_a_new_counter(cx: Context) -> Verdict {
    for past in passed(&cx) {
        let options = IncrementOptions::default().with_expiry(past);
        let sum = cx.store().increment(&key(["k"]), 5, &options).await?;
        ensure_eq!(sum, 5, "the number that `increment` of an absent key returned");
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

/// A time to live that is not a whole number of seconds.
const ODD: Duration = Duration::from_millis(1_789);

async fn at_a_moment_in_a_transaction(cx: Context) -> Verdict {
    let moment = cx.now() + ODD;
    commit(&cx, Transaction::new().set(grouped("k"), "v", Expiry::At(moment))).await?;
    cx.advance(ODD.saturating_sub(MILLISECOND)).await;
    cx.expect(grouped("k"), "v").await?;
    cx.advance(MILLISECOND).await;
    cx.expect_absent(grouped("k")).await
}

async fn at_a_moment_for_a_counter(cx: Context) -> Verdict {
    let moment = cx.now() + ODD;
    cx.store().increment(&key(["k"]), 1, &IncrementOptions::default().with_expiry(Expiry::At(moment))).await?;
    cx.advance(ODD.saturating_sub(MILLISECOND)).await;
    cx.expect(["k"], "1").await?;
    cx.advance(MILLISECOND).await;
    cx.expect_absent(["k"]).await
}

async fn kept_in_a_batch(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "old", TTL).await?;
    if !cx.is_before(until) {
        return Ok(());
    }
    let options = SetOptions::default().with_expiry(Expiry::Keep);
    cx.set_many(&[
        SetItem::new(key(["k"]), "new").with_options(options.clone()),
        SetItem::new(key(["permanent"]), "new").with_options(options),
    ])
    .await?;
    let was_kept = cx.is_before(until);
    cx.advance_past(TTL).await;
    // If the write came after the deadline, it made a new entry, which never expires.
    if was_kept {
        cx.expect_absent(["k"]).await?;
    }
    cx.expect(["permanent"], "new").await
}

async fn kept_after_a_delete(cx: Context) -> Verdict {
    cx.set_ttl(grouped("k"), "old", TTL).await?;
    commit(&cx, Transaction::new().delete(grouped("k")).set(grouped("k"), "new", Expiry::Keep)).await?;
    if cx.has(Capability::Deadlines) {
        ensure_eq!(cx.entry(grouped("k")).await?.expires, Expires::Never, "the deadline of the new entry");
    }
    cx.advance_past(TTL).await;
    cx.expect(grouped("k"), "new").await
}

async fn kept_after_a_set_in_the_past(cx: Context) -> Verdict {
    for past in passed(&cx) {
        cx.set_ttl(grouped("k"), "old", TTL).await?;
        let sets = Transaction::new().set(grouped("k"), "never there", past);
        commit(&cx, sets.set(grouped("k"), "new", Expiry::Keep)).await?;
        cx.advance_past(TTL).await;
        cx.expect(grouped("k"), "new").await?;
    }
    Ok(())
}

async fn previous_of_a_set_in_the_past(cx: Context) -> Verdict {
    for past in passed(&cx) {
        cx.set(["k"], "old").await?;
        let before = cx.entry(["k"]).await?;
        let options = SetOptions::default().with_expiry(past).with_previous();
        match cx.store().set(&key(["k"]), "never there".into(), &options).await? {
            SetOutcome::Stored { previous, .. } => {
                ensure_eq!(previous, Some(before), "the previous entry of a `set` whose deadline has passed");
            }
            refused @ SetOutcome::Refused { .. } => {
                return Err(Failure::new(format!("`set` without a condition was refused: {refused:?}")));
            }
        }
        cx.expect_absent(["k"]).await?;
    }
    Ok(())
}

async fn no_deadlines_are_made_up(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    let expires = cx.entry(["k"]).await?.expires;
    ensure!(
        !matches!(expires, Expires::At(_)),
        "`get` of a permanent entry returned the deadline {expires:?}, but the store declares no deadlines"
    );
    Ok(())
}

async fn swept_without_a_call(cx: Context) -> Verdict {
    const KEYS: u64 = 10;
    // Advancing the store's clock makes the background task due, but its work takes real time. Therefore each round
    // waits longer for this work. The last wait is long enough for a slow machine.
    for millis in [10, 100, 1_000, 5_000] {
        for number in 0..KEYS {
            cx.set_ttl(["k", &number.to_string()], "v", TTL).await?;
        }
        cx.advance(LONG).await;
        cx.wait(Duration::from_millis(millis)).await;
        let swept = cx.store().sweep().await?;
        ensure!(swept <= KEYS, "`sweep` returned {swept} entries, but only {KEYS} had expired");
        if swept < KEYS {
            return Ok(());
        }
    }
    Err(Failure::new("`sweep` found every expired entry an hour after its deadline, so nothing else had removed any"))
}
