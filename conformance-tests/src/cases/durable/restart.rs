//! Entries after close and reopen, and second handles to the same store.

use std::time::Duration;

use kv_core::{
    Capability, Expires, Expiry, IncrementOptions, KvStore, NewExpiry, SetItem, SetOptions, Survives, Transaction, When,
};

use super::restart_handles::{
    a_runtime_that_ended, dropped_without_close, handles_are_closed_alone, handles_judge_together, handles_share,
};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};

cases! { restart, Durable:
    values_survive: "R-3" [Need::Reopen] "every acknowledged value exists after close and reopen";
    the_last_write_survives: "R-3" [Need::Reopen] "a write that was acknowledged just before `close` exists after reopen";
    deletes_survive: "R-3" [Need::Reopen] "a deleted key stays absent after reopen";
    large_values_survive: "R-3" [Need::Reopen] "values of mebibytes are unchanged after reopen";
    bytes_of_every_kind_survive: "R-3" [Need::Reopen] "values of any bytes are unchanged after reopen: empty values, zeros, tabs, line ends, backslashes, invalid UTF-8";
    touches_survive: "R-3" [Need::Reopen, Need::Has(Capability::Touch)] "a deadline that `touch` moved is the same after reopen";
    clears_survive: "R-3" [Need::Reopen, Need::Has(Capability::List)] "cleared keys stay absent after reopen";
    sets_in_the_past_survive: "R-3" [Need::Reopen, Need::Has(Capability::Deadlines)] "a value that a `set` with a time to live of zero replaced does not come back after reopen";
    odd_keys_survive: "K-2" [Need::Reopen] "keys of dangerous segments hold their own values after reopen";
    deadlines_survive: "T-4" [Need::Reopen] "an entry expires at its deadline, even if the store was closed and reopened in the meantime";
    deadlines_read_back: "T-4" [Need::Reopen, Need::Has(Capability::Deadlines)] "the deadline is the same after reopen: the time to live does not start again";
    what_ended_meanwhile: "T-1" [Need::Reopen, Need::Clock] "an entry whose deadline passed while the store was closed is absent";
    versions_survive: "S-3" [Need::Reopen, Need::Has(Capability::Versions)] "the version of an entry is the same after reopen";
    versions_hold: "S-2" [Need::Reopen, Need::Has(Capability::Versions), Need::Has(Capability::Conditions)]
        "a condition on a version from before `close` holds after reopen";
    versions_never_repeat: "S-3" [Need::Reopen, Need::Has(Capability::Versions)] "no version repeats after reopen";
    transactions_survive_whole: "X-1" [Need::Reopen, Need::Has(Capability::Transactions)] "every effect of an acknowledged transaction exists after reopen";
    counters_survive: "C-1" [Need::Reopen, Need::Has(Capability::Counters)] "a counter continues after reopen";
    lists_survive: "L-1" [Need::Reopen, Need::Has(Capability::List)] "`list` returns the same items after reopen";
    again_and_again: "R-3" [Need::Reopen] "a store can be closed and opened many times";
    an_empty_one: "R-1" [Need::Reopen] "an empty store can be closed and reopened";
    unswept_entries_do_not_return: "T-1" [Need::Reopen] "an entry that expired before `close` does not come back after reopen";
    flush_is_a_barrier: "R-3" [Need::Reopen] "writes before a `flush` exist after reopen, and `flush` can be repeated";
    dropped_without_close: "R-3" [Need::Reopen, Need::Survives(Survives::Process)]
        "a store whose last handle was dropped has all its entries and can be reopened";
    handles_share: "G-2" [Need::SecondHandle] "a second handle sees the writes and deletes of the first handle immediately";
    handles_judge_together: "S-2" [Need::SecondHandle, Need::Has(Capability::Conditions)] "of two handles that create a key concurrently, exactly one succeeds";
    handles_are_closed_alone: "R-3" [Need::SecondHandle] "`close` of one handle does not close a handle that was opened separately";
    a_runtime_that_ended: "R-3" [] "if the tokio runtime of a store has ended, calls succeed or fail as Unavailable, and do not hang";
}

async fn values_survive(mut cx: Context) -> Verdict {
    for at in 0..100 {
        cx.set(["k", &at.to_string()], format!("value {at}")).await?;
    }
    cx.set(["empty"], "").await?;
    cx.reopen().await?;
    for at in 0..100 {
        cx.expect(["k", &at.to_string()], format!("value {at}")).await?;
    }
    cx.expect(["empty"], "").await
}

async fn transactions_survive_whole(mut cx: Context) -> Verdict {
    // All keys share their first three segments, so they are in one transaction group.
    let all: Vec<_> = ["a", "b", "c"].map(|name| key(["g", "g", "g", name])).into();
    for round in ["1", "2", "3"] {
        let write =
            all.iter().fold(Transaction::new(), |transaction, key| transaction.set(key.clone(), round, Expiry::Never));
        let outcome = cx.store().commit(&write).await?;
        ensure!(
            outcome.is_committed(),
            "expected `commit` without checks to be committed, but it returned {outcome:?}"
        );
        cx.reopen().await?;
        for key in &all {
            cx.expect(key, round).await?;
        }
    }
    let removal = all.iter().fold(Transaction::new(), |transaction, key| transaction.delete(key.clone()));
    let outcome = cx.store().commit(&removal).await?;
    ensure!(outcome.is_committed(), "expected `commit` without checks to be committed, but it returned {outcome:?}");
    cx.reopen().await?;
    for key in &all {
        cx.expect_absent(key).await?;
    }
    Ok(())
}

async fn the_last_write_survives(mut cx: Context) -> Verdict {
    for round in ["1", "2", "3"] {
        cx.set(["k"], round).await?;
        cx.reopen().await?;
        cx.expect(["k"], round).await?;
    }
    Ok(())
}

async fn deletes_survive(mut cx: Context) -> Verdict {
    cx.set(["gone"], "v").await?;
    cx.set(["kept"], "v").await?;
    cx.delete(["gone"]).await?;
    cx.reopen().await?;
    cx.expect_absent(["gone"]).await?;
    cx.expect(["kept"], "v").await
}

async fn large_values_survive(mut cx: Context) -> Verdict {
    let large: Vec<u8> = (0..=250).collect::<Vec<u8>>().repeat(8_000);
    cx.set(["large"], large.clone()).await?;
    cx.set(["small"], "v").await?;
    cx.reopen().await?;
    cx.expect(["large"], large).await?;
    cx.expect(["small"], "v").await
}

async fn bytes_of_every_kind_survive(mut cx: Context) -> Verdict {
    let values: [&[u8]; 12] = [
        b"",
        b"\0",
        b"a\tb",
        b"a\nb",
        b"a\r\nb\r\n",
        b"\\n",
        b"\"quoted\" 'twice'",
        b" spaces ",
        b"a=b;c,d:e",
        &[0x80],
        &[0xff, 0xfe, 0x00],
        "\u{feff}é\u{10ffff}".as_bytes(),
    ];
    for (at, value) in values.iter().enumerate() {
        cx.set(["k", &at.to_string()], *value).await?;
    }
    let all: Vec<u8> = (0..=255).collect();
    cx.set(["all"], all.clone()).await?;
    cx.reopen().await?;
    for (at, value) in values.iter().enumerate() {
        cx.expect(["k", &at.to_string()], value).await?;
    }
    cx.expect(["all"], all).await
}

async fn touches_survive(mut cx: Context) -> Verdict {
    cx.set_ttl(["longer"], "v", Duration::from_secs(3_600)).await?;
    cx.set(["shorter"], "v").await?;
    cx.set_ttl(["never"], "v", Duration::from_secs(3_600)).await?;
    let touches = [
        ("longer", NewExpiry::After(Duration::from_secs(7_200))),
        ("shorter", NewExpiry::After(Duration::from_secs(1_800))),
        ("never", NewExpiry::Never),
    ];
    let mut before = Vec::new();
    for (name, expiry) in touches {
        ensure!(cx.store().touch(&key([name]), expiry).await?, "`touch` returned false for the live entry {name}");
        before.push((name, cx.entry([name]).await?.expires));
    }
    cx.reopen().await?;
    for (name, expires) in before {
        ensure_eq!(cx.entry([name]).await?.expires, expires, "the deadline of {name} after `touch` and reopen");
    }
    Ok(())
}

async fn clears_survive(mut cx: Context) -> Verdict {
    for at in 0..20 {
        cx.set(["gone", &at.to_string()], "v").await?;
    }
    cx.set(["kept"], "v").await?;
    cx.store().clear(&key(["gone"]).into()).await?;
    cx.reopen().await?;
    ensure_eq!(cx.keys(()).await?, [key(["kept"])], "the keys that `list` returned after `clear` and reopen");
    cx.expect(["kept"], "v").await
}

async fn sets_in_the_past_survive(mut cx: Context) -> Verdict {
    cx.set(["k"], "before").await?;
    cx.set_ttl(["k"], "never there", Duration::ZERO).await?;
    cx.expect_absent(["k"]).await?;
    cx.reopen().await?;
    cx.expect_absent(["k"]).await
}

async fn odd_keys_survive(mut cx: Context) -> Verdict {
    let keys = [
        key([""]),
        key(["", ""]),
        key(["\0"]),
        key(["a#b"]),
        key(["a", "b"]),
        key(["a$23b"]),
        key(["é"]),
        key(["🦀", " "]),
    ];
    for key in &keys {
        cx.set(key, key.to_string()).await?;
    }
    cx.reopen().await?;
    for key in &keys {
        cx.expect(key, key.to_string()).await?;
    }
    Ok(())
}

async fn deadlines_survive(mut cx: Context) -> Verdict {
    let third = Duration::from_millis(500);
    let (short, long) = (3 * third, Duration::from_secs(3_600));
    let until = cx.now() + short;
    cx.set_ttl(["short"], "v", short).await?;
    cx.set_ttl(["long"], "v", long).await?;
    cx.advance(third).await;
    cx.reopen().await?;
    cx.expect_until(["short"], "v", until).await?;
    // A deadline that restarted at reopen would be a third of the time to live in the future.
    cx.advance_past(2 * third).await;
    cx.expect_absent(["short"]).await?;
    cx.expect(["long"], "v").await
}

async fn deadlines_read_back(mut cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(3_600)).await?;
    cx.set(["never"], "v").await?;
    let before = cx.entry(["k"]).await?.expires;
    cx.advance(Duration::from_millis(50)).await;
    cx.reopen().await?;
    ensure_eq!(cx.entry(["k"]).await?.expires, before, "the deadline that `get` returned after reopen");
    ensure_eq!(
        cx.entry(["never"]).await?.expires,
        Expires::Never,
        "the deadline of a permanent entry that `get` returned after reopen"
    );
    Ok(())
}

async fn what_ended_meanwhile(mut cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(1)).await?;
    cx.store().close().await?;
    cx.advance(Duration::from_secs(2)).await;
    cx.reopen().await?;
    cx.expect_absent(["k"]).await?;
    cx.set(["k"], "new").await?;
    cx.expect(["k"], "new").await
}

async fn versions_survive(mut cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    cx.reopen().await?;
    ensure_eq!(cx.entry(["k"]).await?.version, Some(version), "the version that `get` returned after reopen");
    Ok(())
}

async fn versions_hold(mut cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "old").await?;
    cx.reopen().await?;
    let options = SetOptions::default().with_when(When::Version(version));
    cx.set_with(["k"], "new", options.clone()).await?;
    let outcome = cx.store().set(&key(["k"]), "newer".into(), &options).await?;
    ensure!(
        !outcome.is_stored(),
        "`set` conditional on the version from before the last write was stored, but it should be refused"
    );
    cx.expect(["k"], "new").await
}

async fn versions_never_repeat(mut cx: Context) -> Verdict {
    let mut seen = Vec::new();
    for _ in 0..4 {
        for _ in 0..5 {
            let version = cx.set_versioned(["k"], "same").await?;
            ensure!(!seen.contains(&version), "`set` returned the version {version} a second time");
            seen.push(version);
            cx.delete(["k"]).await?;
        }
        cx.reopen().await?;
    }
    Ok(())
}

async fn counters_survive(mut cx: Context) -> Verdict {
    for expected in 1..=5 {
        let counted = cx.store().increment(&key(["k"]), 1, &IncrementOptions::default()).await?;
        ensure_eq!(counted, expected, "the number that `increment` returned");
        cx.reopen().await?;
    }
    cx.expect(["k"], "5").await
}

async fn lists_survive(mut cx: Context) -> Verdict {
    let keys = crate::cases::list::tree::tree();
    crate::cases::list::tree::write(&cx, &keys).await?;
    cx.reopen().await?;
    crate::cases::list::tree::expect_list(&cx, &keys, kv_core::ListQuery::default()).await?;
    crate::cases::list::tree::expect_list(&cx, &keys, kv_core::ListQuery::new(key(["a"])).with_reverse()).await
}

async fn again_and_again(mut cx: Context) -> Verdict {
    for round in 0..10 {
        cx.set(["k", &round.to_string()], "v").await?;
        cx.reopen().await?;
        for earlier in 0..=round {
            cx.expect(["k", &earlier.to_string()], "v").await?;
        }
    }
    Ok(())
}

async fn an_empty_one(mut cx: Context) -> Verdict {
    cx.reopen().await?;
    cx.expect_absent(["k"]).await?;
    cx.reopen().await?;
    cx.set(["k"], "v").await?;
    cx.expect(["k"], "v").await
}

async fn unswept_entries_do_not_return(mut cx: Context) -> Verdict {
    let ttl = Duration::from_millis(300);
    let options = SetOptions::default().with_expiry(Expiry::After(ttl));
    let items: Vec<_> =
        (0..50).map(|at| SetItem::new(key(["k", &at.to_string()]), "v").with_options(options.clone())).collect();
    cx.set_many(&items).await?;
    cx.advance_past(ttl).await;
    cx.reopen().await?;
    for item in &items {
        cx.expect_absent(&item.key).await?;
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(()).await?, [], "the keys that `list` returned after reopen");
    }
    Ok(())
}

async fn flush_is_a_barrier(mut cx: Context) -> Verdict {
    let items: Vec<_> = (0..200).map(|at| SetItem::new(key(["k", &at.to_string()]), at.to_string())).collect();
    cx.set_many(&items).await?;
    cx.store().flush().await?;
    cx.store().flush().await?;
    cx.set(["after"], "v").await?;
    cx.reopen().await?;
    for item in &items {
        cx.expect(&item.key, &item.value).await?;
    }
    cx.expect(["after"], "v").await
}
