//! What survives that a store is closed and opened again, and a second handle on the same store.

use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, ErrorKind, Expires, Expiry, IncrementOptions, KvStore, NewExpiry, SetItem, SetOptions,
    SetOutcome, Survives, Transaction, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { restart, Durable:
    values_survive: "R-3" [Need::Reopen] "every acknowledged value is there after close and open";
    the_last_write_survives: "R-3" [Need::Reopen] "a write that was acknowledged right before the close is there";
    deletes_survive: "R-3" [Need::Reopen] "what was deleted stays deleted";
    large_values_survive: "R-3" [Need::Reopen] "values of mebibytes are there, byte for byte";
    bytes_of_every_kind_survive: "R-3" [Need::Reopen] "a value of any bytes is there: none, zeros, tabs, ends of lines, backslashes, what is no text";
    touches_survive: "R-3" [Need::Reopen, Need::Has(Capability::Touch)] "a deadline that was moved stays where it was moved to";
    clears_survive: "R-3" [Need::Reopen, Need::Has(Capability::List)] "what was cleared stays cleared";
    sets_in_the_past_survive: "R-3" [Need::Reopen, Need::Has(Capability::Deadlines)] "what was there before a set with a time to live of zero does not come back";
    odd_keys_survive: "K-2" [Need::Reopen] "keys of dangerous segments are there, each with its own value";
    deadlines_survive: "T-4" [Need::Reopen] "an entry ends at its deadline, as if the store had not been closed";
    deadlines_read_back: "T-4" [Need::Reopen, Need::Has(Capability::Deadlines)] "the deadline reads back the same, not counted anew";
    what_ended_meanwhile: "T-1" [Need::Reopen, Need::Clock] "an entry whose deadline passed while the store was closed is absent";
    versions_survive: "S-3" [Need::Reopen, Need::Has(Capability::Versions)] "the version of an entry is the same after close and open";
    versions_hold: "S-2" [Need::Reopen, Need::Has(Capability::Versions), Need::Has(Capability::Conditions)]
        "a condition on a version that was read before the close holds after it";
    versions_never_repeat: "S-3" [Need::Reopen, Need::Has(Capability::Versions)] "no version comes again in the lives of a store";
    transactions_survive_whole: "X-1" [Need::Reopen, Need::Has(Capability::Transactions)] "of an acknowledged transaction every effect is there after close and open";
    counters_survive: "C-1" [Need::Reopen, Need::Has(Capability::Counters)] "a counter counts on";
    lists_survive: "L-1" [Need::Reopen, Need::Has(Capability::List)] "the list is the same after close and open";
    again_and_again: "R-3" [Need::Reopen] "a store can be closed and opened many times";
    an_empty_one: "R-1" [Need::Reopen] "a store in which nothing was written can be closed and opened";
    unswept_entries_do_not_return: "T-1" [Need::Reopen] "what had expired before the close does not come back";
    flush_is_a_barrier: "R-3" [Need::Reopen] "what was acknowledged before a flush is there, and flushing again is fine";
    dropped_without_close: "R-3" [Need::Reopen, Need::Survives(Survives::Process)]
        "a store whose last handle was dropped has lost nothing, and can be opened again";
    handles_share: "G-2" [Need::SecondHandle] "what one handle writes or deletes, the other sees at once";
    handles_judge_together: "S-2" [Need::SecondHandle, Need::Has(Capability::Conditions)] "of two handles that create a key, one succeeds";
    handles_are_closed_alone: "R-3" [Need::SecondHandle] "closing one handle leaves another that was opened for itself";
    a_runtime_that_ended: "R-3" [] "a store whose opening runtime has ended works or is Unavailable, and does not hang";
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
    // In one group, wherever groups begin.
    let all: Vec<_> = ["a", "b", "c"].map(|name| key(["g", "g", "g", name])).into();
    for round in ["1", "2", "3"] {
        let write =
            all.iter().fold(Transaction::new(), |transaction, key| transaction.set(key.clone(), round, Expiry::Never));
        let outcome = cx.store().commit(&write).await?;
        ensure!(outcome.is_committed(), "a transaction without checks came to {outcome:?}");
        cx.reopen().await?;
        for key in &all {
            cx.expect(key, round).await?;
        }
    }
    let removal = all.iter().fold(Transaction::new(), |transaction, key| transaction.delete(key.clone()));
    let outcome = cx.store().commit(&removal).await?;
    ensure!(outcome.is_committed(), "a transaction without checks came to {outcome:?}");
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
        ensure!(cx.store().touch(&key([name]), expiry).await?, "touch found no entry of {name}");
        before.push((name, cx.entry([name]).await?.expires));
    }
    cx.reopen().await?;
    for (name, expires) in before {
        ensure_eq!(cx.entry([name]).await?.expires, expires, "the deadline of {name}, which was moved");
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
    ensure_eq!(cx.keys(()).await?, [key(["kept"])], "what is there after a clear");
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
    cx.pass(third).await;
    cx.reopen().await?;
    cx.expect_until(["short"], "v", until).await?;
    // A deadline that was counted anew would be a third of its time away still.
    cx.outlive(2 * third).await;
    cx.expect_absent(["short"]).await?;
    cx.expect(["long"], "v").await
}

async fn deadlines_read_back(mut cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(3_600)).await?;
    cx.set(["never"], "v").await?;
    let before = cx.entry(["k"]).await?.expires;
    cx.pass(Duration::from_millis(50)).await;
    cx.reopen().await?;
    ensure_eq!(cx.entry(["k"]).await?.expires, before, "the deadline after close and open");
    ensure_eq!(
        cx.entry(["never"]).await?.expires,
        Expires::Never,
        "the deadline of a permanent entry after close and open"
    );
    Ok(())
}

async fn what_ended_meanwhile(mut cx: Context) -> Verdict {
    cx.set_ttl(["k"], "v", Duration::from_secs(1)).await?;
    cx.store().close().await?;
    cx.pass(Duration::from_secs(2)).await;
    cx.reopen().await?;
    cx.expect_absent(["k"]).await?;
    cx.set(["k"], "new").await?;
    cx.expect(["k"], "new").await
}

async fn versions_survive(mut cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "v").await?;
    cx.reopen().await?;
    ensure_eq!(cx.entry(["k"]).await?.version, Some(version), "the version after close and open");
    Ok(())
}

async fn versions_hold(mut cx: Context) -> Verdict {
    let version = cx.set_versioned(["k"], "old").await?;
    cx.reopen().await?;
    let options = SetOptions::default().with_when(When::Version(version));
    cx.set_with(["k"], "new", options.clone()).await?;
    let outcome = cx.store().set(&key(["k"]), "newer".into(), &options).await?;
    ensure!(!outcome.is_stored(), "the version of before the last write holds");
    cx.expect(["k"], "new").await
}

async fn versions_never_repeat(mut cx: Context) -> Verdict {
    let mut seen = Vec::new();
    for _ in 0..4 {
        for _ in 0..5 {
            let version = cx.set_versioned(["k"], "same").await?;
            ensure!(!seen.contains(&version), "the version {version} came again");
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
        ensure_eq!(counted, expected, "the counter");
        cx.reopen().await?;
    }
    cx.expect(["k"], "5").await
}

async fn lists_survive(mut cx: Context) -> Verdict {
    let keys = super::list::tree();
    super::list::write(&cx, &keys).await?;
    cx.reopen().await?;
    super::list::lists(&cx, &keys, kv_core::ListQuery::default()).await?;
    super::list::lists(&cx, &keys, kv_core::ListQuery::new(key(["a"])).with_reverse()).await
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
    cx.outlive(ttl).await;
    cx.reopen().await?;
    for item in &items {
        cx.expect_absent(&item.key).await?;
    }
    if cx.has(Capability::List) {
        ensure_eq!(cx.keys(()).await?, [], "what is listed after close and open");
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

async fn dropped_without_close(cx: Context) -> Verdict {
    let store = cx.other_store().await?;
    let k = key(["k"]);
    ensure!(store.set(&k, "v".into(), &SetOptions::default()).await?.is_stored(), "a write was refused");
    if !cx.capabilities().durability.interval.is_zero() {
        store.flush().await?;
    }
    drop(store);
    // Its tasks and threads may need a moment to let go of what they hold.
    let mut tries = 0;
    let again = loop {
        match cx.other_store().await {
            Ok(store) => break store,
            Err(failure) if tries == 100 => return Err(failure),
            Err(_) => tries += 1,
        }
        cx.wait(Duration::from_millis(100)).await;
    };
    let found = again.get(&k).await?.map(|entry| entry.value);
    ensure!(
        again.delete(&k, &DeleteOptions::default()).await?.is_deleted() == found.is_some(),
        "get and delete disagree"
    );
    again.close().await?;
    ensure_eq!(found.as_deref(), Some(b"v".as_slice()), "what is there after the handle was dropped");
    Ok(())
}

async fn handles_share(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for at in 0..20 {
        let (k, value) = (key(["k", &at.to_string()]), at.to_string());
        cx.set(&k, value.clone()).await?;
        let seen = other.get(&k).await?.map(|entry| entry.value);
        ensure_eq!(seen.as_deref(), Some(value.as_bytes()), "what the other handle reads");
        ensure!(
            other.delete(&k, &DeleteOptions::default()).await?.is_deleted(),
            "the other handle found nothing to delete"
        );
        cx.expect_absent(&k).await?;
    }
    other.close().await?;
    Ok(())
}

async fn handles_judge_together(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let options = SetOptions::default().with_when(When::Absent);
    for at in 0..20 {
        let k = key(["k", &at.to_string()]);
        let (one, two) =
            tokio::join!(cx.store().set(&k, "one".into(), &options), other.set(&k, "two".into(), &options));
        let stored = [one?, two?].iter().filter(|outcome| matches!(outcome, SetOutcome::Stored { .. })).count();
        ensure_eq!(stored, 1, "how many of two handles created the key");
    }
    other.close().await?;
    Ok(())
}

async fn handles_are_closed_alone(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set(["k"], "v").await?;
    other.close().await?;
    cx.expect(["k"], "v").await?;
    cx.set(["k"], "new").await?;
    cx.expect(["k"], "new").await
}

async fn a_runtime_that_ended(cx: Context) -> Verdict {
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn({
        let cx = cx.clone();
        move || {
            let opened = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
                Ok(runtime) => runtime.block_on(cx.other_store()),
                Err(error) => Err(Failure::new(format!("no runtime for the other store: {error}"))),
            };
            // The runtime is gone by now.
            let _ = send.send(opened);
        }
    });
    let other = receive.await.map_err(|_| Failure::new("opening the other store panicked"))??;
    for _ in 0..3 {
        let written = other.set(&key(["k"]), "v".into(), &SetOptions::default()).await.map(drop);
        let read = other.get(&key(["k"])).await.map(drop);
        let deleted = other.delete(&key(["k"]), &DeleteOptions::default()).await.map(drop);
        for error in [written.err(), read.err(), deleted.err()].into_iter().flatten() {
            ensure_eq!(error.kind(), ErrorKind::Unavailable, "the kind of the error after the runtime ended: {error}");
        }
    }
    other.close().await.or_else(|error| if error.kind() == ErrorKind::Unavailable { Ok(()) } else { Err(error) })?;
    cx.set(["own"], "v").await?;
    cx.expect(["own"], "v").await
}
