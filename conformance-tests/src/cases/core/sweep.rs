//! `sweep` frees the space of expired entries.

use std::time::Duration;

use kv_core::{Capability, Expiry, KeyPrefix, KvStore, ListQuery, NewExpiry, SetItem, SetOptions};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { sweep, Core:
    of_nothing: "T-6" [] "`sweep` of a store without expired entries removes nothing";
    leaves_the_live: "T-6" [] "`sweep` leaves permanent entries, and entries before their deadline";
    takes_the_expired: "T-6" [] "a swept key stays absent and can be written again";
    two_hundred_thousand_unread: "T-6" [Need::Has(Capability::List), Need::KeepsAll]
        "after a `sweep` of 200,000 unread expired entries, `list` and a second `sweep` find none of them";
    swept_entries_are_gone: "T-6" [Need::Reopen, Need::Clock] "after a `sweep`, expired entries are gone, so that not even a store with an earlier clock finds them";
    set_again_before: "T-6" [] "`sweep` leaves a key that was written again after it expired";
    set_again_meanwhile: "T-6" [Need::KeepsAll] "`sweep` leaves keys that are written again while it runs";
    touched_before: "T-6" [Need::Has(Capability::Touch)] "`sweep` after the old deadline leaves a key whose deadline was removed by `touch`";
    same_keys_again: "T-6" [Need::Has(Capability::List)] "after keys are written and expire several times, `list` returns nothing";
    deleted_before: "T-6" [] "the old deadline of a deleted entry has no effect on a later entry of the key";
}

const TTL: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

async fn of_nothing(cx: Context) -> Verdict {
    sweep_at_most(&cx, 0).await?;
    cx.set(["k"], "v").await?;
    sweep_at_most(&cx, 0).await?;
    cx.expect(["k"], "v").await
}

async fn leaves_the_live(cx: Context) -> Verdict {
    let permanent = cx.set(["permanent"], "v").await?;
    cx.set_ttl(["long"], "v", LONG).await?;
    cx.set_ttl(["short"], "v", TTL).await?;
    cx.advance_past(TTL).await;
    sweep_at_most(&cx, 1).await?;
    cx.expect_absent(["short"]).await?;
    cx.expect(["permanent"], "v").await?;
    cx.expect(["long"], "v").await?;
    ensure_eq!(cx.entry(["permanent"]).await?.version, permanent, "the version that `get` returned after `sweep`");
    Ok(())
}

async fn takes_the_expired(cx: Context) -> Verdict {
    for value in ["one", "two"] {
        cx.set_ttl(["k"], value, TTL).await?;
        cx.advance_past(TTL).await;
        sweep_at_most(&cx, 1).await?;
        cx.expect_absent(["k"]).await?;
    }
    cx.set(["k"], "three").await?;
    sweep_at_most(&cx, 0).await?;
    cx.expect(["k"], "three").await
}

async fn two_hundred_thousand_unread(cx: Context) -> Verdict {
    const MANY: u64 = 200_000;
    const BATCH: u64 = 10_000;
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    cx.set(["a-live"], "v").await?;
    cx.set_ttl(["z-live"], "v", LONG).await?;
    for start in (0..MANY).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
        let numbers = start..start + BATCH;
        let items: Vec<_> =
            numbers.map(|at| SetItem::new(key(["many", &at.to_string()]), "v").with_options(options.clone())).collect();
        cx.set_many(&items).await?;
    }
    cx.advance_past(TTL).await;
    sweep_at_most(&cx, MANY).await?;
    ensure_eq!(cx.keys(()).await?, [key(["a-live"]), key(["z-live"])], "the keys that `list` returned after `sweep`");
    sweep_at_most(&cx, 0).await?;
    ensure_eq!(
        cx.store().clear(&KeyPrefix::ALL).await?,
        2,
        "the number of entries that `clear` returned after `sweep`"
    );
    Ok(())
}

async fn swept_entries_are_gone(mut cx: Context) -> Verdict {
    const SWEPT: u64 = 20;
    cx.set(["live"], "v").await?;
    for number in 0..SWEPT {
        cx.set_ttl(["k", &number.to_string()], "v", TTL).await?;
    }
    cx.advance_past(TTL).await;
    sweep_at_most(&cx, SWEPT).await?;
    // An entry that was only hidden is before its deadline now.
    cx.reopen_earlier(2 * TTL).await?;
    for number in 0..SWEPT {
        let found = cx.get(["k", &number.to_string()]).await?;
        ensure_eq!(found, None, "the value of a swept entry that `get` returned after the clock was set back");
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(()).await?, [key(["live"])], "the keys that `list` returned after the clock was set back");
    }
    cx.expect(["live"], "v").await
}

async fn set_again_before(cx: Context) -> Verdict {
    for name in ["permanent", "long"] {
        cx.set_ttl([name], "old", TTL).await?;
    }
    cx.advance_past(TTL).await;
    cx.set(["permanent"], "new").await?;
    cx.set_ttl(["long"], "new", LONG).await?;
    cx.store().sweep().await?;
    cx.expect(["permanent"], "new").await?;
    cx.expect(["long"], "new").await
}

async fn set_again_meanwhile(cx: Context) -> Verdict {
    let names: Vec<String> = (0..500).map(|at| at.to_string()).collect();
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    let items: Vec<_> =
        names.iter().map(|name| SetItem::new(key(["k", name]), "old").with_options(options.clone())).collect();
    cx.set_many(&items).await?;
    cx.advance_past(TTL).await;
    let sweeping = tokio::spawn({
        let cx = cx.clone();
        async move {
            for _ in 0..50 {
                cx.store().sweep().await?;
                tokio::task::yield_now().await;
            }
            Ok::<(), Failure>(())
        }
    });
    for name in &names {
        cx.set(["k", name], "new").await?;
        tokio::task::yield_now().await;
    }
    sweeping.await.map_err(|error| Failure::new(format!("the sweeping task panicked: {error}")))??;
    for name in &names {
        cx.expect(["k", name], "new").await?;
    }
    Ok(())
}

async fn touched_before(cx: Context) -> Verdict {
    let until = cx.now() + TTL;
    cx.set_ttl(["k"], "v", TTL).await?;
    let found = cx.store().touch(&key(["k"]), NewExpiry::Never).await?;
    if !found && !cx.is_before(until) {
        return Ok(());
    }
    cx.advance_past(TTL).await;
    sweep_at_most(&cx, 0).await?;
    cx.expect(["k"], "v").await
}

async fn same_keys_again(cx: Context) -> Verdict {
    for _ in 0..3 {
        for name in ["a", "b", "c"] {
            // The second write replaces the first deadline. Both deadlines have passed when `sweep` runs.
            cx.set_ttl([name], "v", TTL / 2).await?;
            cx.set_ttl([name], "v", TTL).await?;
        }
        cx.advance_past(TTL).await;
        sweep_at_most(&cx, 3).await?;
        ensure_eq!(cx.list_all(ListQuery::default()).await?, [], "the items that `list` returned after `sweep`");
    }
    Ok(())
}

async fn deleted_before(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", TTL).await?;
    cx.delete(["k"]).await?;
    cx.advance_past(TTL).await;
    sweep_at_most(&cx, 0).await?;
    cx.expect_absent(["k"]).await?;
    cx.set(["k"], "new").await?;
    sweep_at_most(&cx, 0).await?;
    cx.expect(["k"], "new").await
}

/// Sweeps, and fails if `sweep` returns more than the number of expired entries. `sweep` may return less, because the
/// background sweeper may come first.
async fn sweep_at_most(cx: &Context, expired: u64) -> Verdict {
    let count = cx.store().sweep().await?;
    // On a shared server, `sweep` also counts entries of other cases. A store whose clock the case sets is not shared.
    ensure!(count <= expired || !cx.moves_clock(), "`sweep` returned {count} entries, but only {expired} had expired");
    Ok(())
}
