//! `get` and other reads show the deadline of an entry.

use std::time::{Duration, SystemTime};

use kv_core::{Capability, Expires, Expiry, KvStore, ListQuery, SetItem, SetOptions};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { deadlines, Core:
    never: "T-4" [Need::Has(Capability::Deadlines)] "an entry that was written without a deadline shows Never";
    now_and_the_ttl: "T-4" [Need::Has(Capability::Deadlines), Need::Clock]
        "the deadline is the time of the write plus the time to live, rounded up to the millisecond";
    by_one_clock: "T-4" [Need::Has(Capability::Deadlines)]
        "two deadlines differ by the difference of the times to live plus the time between the two writes";
    a_moment: "T-4" [Need::Has(Capability::Deadlines)] "an entry with `Expiry::At` shows exactly that deadline, rounded up to the millisecond";
    it_stands_still: "T-4" [Need::Has(Capability::Deadlines)] "repeated reads show the same deadline";
    kept: "S-1" [Need::Has(Capability::Deadlines)] "`Expiry::Keep` keeps exactly the same deadline";
    replaced: "S-1" [Need::Has(Capability::Deadlines)] "an overwrite replaces the deadline, or removes it if the overwrite has none";
    in_lists_and_batches: "T-4" [Need::Has(Capability::Deadlines)] "`get_many` and `list` show the same deadline as `get`";
    copied: "T-4" [Need::Has(Capability::Deadlines)] "a deadline that was read from one entry can be set on another entry, and reads back unchanged";
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn never(cx: Context) -> Verdict {
    cx.set(["k"], "v").await?;
    ensure_eq!(expires(&cx, "k").await?, Expires::Never, "the deadline of a `set` without an expiry");
    cx.set_ttl(["k"], "v", Duration::MAX).await?;
    ensure_eq!(expires(&cx, "k").await?, Expires::Never, "the deadline of a `set` with the longest time to live");
    Ok(())
}

async fn now_and_the_ttl(cx: Context) -> Verdict {
    for (nanos, rounded) in
        [(1, 1), (1_000_000, 1), (1_000_001, 2), (1_500_000_000, 1_500), (86_400_000_000_001, 86_400_001)]
    {
        cx.advance(Duration::from_millis(7)).await;
        let now = cx.now();
        cx.set_ttl(["k"], "v", Duration::from_nanos(nanos)).await?;
        let expected = Expires::At(now + Duration::from_millis(rounded));
        ensure_eq!(expires(&cx, "k").await?, expected, "the deadline of a `set` with a time to live of {nanos} ns");
    }
    Ok(())
}

async fn by_one_clock(cx: Context) -> Verdict {
    // The case compares two deadlines of the store with each other, so an offset of the server's clock does not matter.
    let (short, difference) = (HOUR, 24 * HOUR);
    let before = cx.now();
    cx.set_ttl(["short"], "v", short).await?;
    cx.set_ttl(["long"], "v", short + difference).await?;
    let between = cx.now().duration_since(before).unwrap_or_default() + Duration::from_millis(20);
    let (first, second) = (moment(&cx, "short").await?, moment(&cx, "long").await?);
    let apart = second.duration_since(first).unwrap_or_default();
    let least = difference.saturating_sub(Duration::from_millis(20));
    let most = difference + between;
    ensure!(
        apart >= least && apart <= most,
        "expected two deadlines between {least:?} and {most:?} apart, but they are {apart:?} apart"
    );
    Ok(())
}

async fn a_moment(cx: Context) -> Verdict {
    let since_epoch = cx.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let whole =
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(0)) + HOUR;
    let milli = Duration::from_millis(1);
    for (given, expected) in [
        (whole, whole),
        (whole + Duration::from_nanos(1), whole + milli),
        (whole + Duration::from_micros(999), whole + milli),
    ] {
        cx.set_with(["k"], "v", expiring(Expiry::At(given))).await?;
        // If `SystemTime` is coarser than a nanosecond, `whole` plus one nanosecond equals `whole`, and nothing is
        // rounded up.
        let expected = if given == whole { whole } else { expected };
        ensure_eq!(expires(&cx, "k").await?, Expires::At(expected), "the deadline of a `set` with `Expiry::At`");
    }
    Ok(())
}

async fn it_stands_still(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", HOUR).await?;
    let first = expires(&cx, "k").await?;
    for _ in 0..4 {
        cx.advance(Duration::from_millis(37)).await;
        ensure_eq!(expires(&cx, "k").await?, first, "the deadline that a later `get` returned");
    }
    Ok(())
}

async fn kept(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "old", HOUR).await?;
    let first = expires(&cx, "k").await?;
    for value in ["new", "newer"] {
        cx.advance(Duration::from_millis(23)).await;
        cx.set_with(["k"], value, expiring(Expiry::Keep)).await?;
        ensure_eq!(expires(&cx, "k").await?, first, "the deadline after a `set` with `Expiry::Keep`");
    }
    Ok(())
}

async fn replaced(cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", HOUR).await?;
    let first = moment(&cx, "k").await?;
    cx.set_ttl(["k"], "v", 2 * HOUR).await?;
    ensure!(moment(&cx, "k").await? > first + HOUR / 2, "`set` with a longer time to live left the old deadline");
    cx.set(["k"], "v").await?;
    ensure_eq!(expires(&cx, "k").await?, Expires::Never, "the deadline after a `set` without an expiry");
    Ok(())
}

async fn in_lists_and_batches(cx: Context) -> Verdict {
    let keys = [key(["a"]), key(["b"])];
    let items =
        [SetItem::new(key(["a"]), "v").with_options(expiring(Expiry::After(HOUR))), SetItem::new(key(["b"]), "v")];
    cx.set_many(&items).await?;
    let gotten = [cx.entry(["a"]).await?, cx.entry(["b"]).await?];
    ensure!(
        gotten[0].expires != gotten[1].expires,
        "`set_many` gave an item without an expiry the deadline of another item"
    );
    for (entry, expected) in cx.store().get_many(&keys).await.into_iter().zip(&gotten) {
        ensure_eq!(entry?.as_ref(), Some(expected), "the entry that `get_many` returned");
    }
    if cx.has(Capability::List) {
        for (item, expected) in cx.list_all(ListQuery::default()).await?.iter().zip(&gotten) {
            ensure_eq!(item.entry.as_ref(), Some(expected), "the entry that `list` returned");
        }
    }
    Ok(())
}

async fn copied(cx: Context) -> Verdict {
    cx.set_ttl(["from"], "v", HOUR).await?;
    let original = expires(&cx, "from").await?;
    cx.advance(Duration::from_millis(11)).await;
    cx.set_with(["to"], "v", expiring(original.into())).await?;
    ensure_eq!(
        expires(&cx, "to").await?,
        original,
        "the deadline of the entry that was written with the deadline of another entry"
    );
    Ok(())
}

async fn expires(cx: &Context, name: &str) -> Result<Expires, Failure> {
    Ok(cx.entry([name]).await?.expires)
}

async fn moment(cx: &Context, name: &str) -> Result<SystemTime, Failure> {
    match expires(cx, name).await? {
        Expires::At(moment) => Ok(moment),
        other => Err(Failure::new(format!("expected `get` of {name} to show a deadline, but it shows {other:?}"))),
    }
}

fn expiring(expiry: Expiry) -> SetOptions {
    SetOptions::default().with_expiry(expiry)
}
