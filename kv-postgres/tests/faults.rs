//! Faults of real servers and disks, and locks of other sessions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashMap;
use std::task::Poll;
use std::time::Duration;

use kv_core::{
    ErrorKind, Expiry, IncrementOptions, KeyPrefix, KvStore, SetOptions, Transaction, Version, WatchEvent, WatchQuery,
};
use kv_postgres::{PostgresStore, SyncMode};
use test_servers::postgres::Postgres;

use futures_util::{StreamExt, poll};

mod support;
use support::{get, impatient, key, lock_row, now, pause, recovers, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("a_killed_server_loses_no_acknowledged_write", killed_under_load),
            test("the_store_recovers_after_one_server_process_was_killed", one_killed_process),
            test("calls_to_a_paused_server_end_within_the_timeout", paused_server),
            test("calls_that_are_queued_for_too_long_are_not_sent", queued_calls_end),
            test("a_full_disk_is_capacity_and_the_store_recovers_when_space_is_free", full_disk),
            test("a_read_only_server_is_readable", read_only_server),
            test("a_write_of_a_locked_row_fails_and_other_writes_succeed", locked_row),
            test("other_writes_continue_while_a_write_waits_for_a_lock", beside_a_lock),
            test("a_call_that_is_not_polled_delays_no_other_call", unpolled_calls),
            test("an_unlogged_table_declares_its_durability", unlogged_table),
            test("concurrent_writes_of_the_same_keys_never_deadlock", no_deadlocks),
        ],
    );
}

async fn killed_under_load() {
    let mut server = Postgres::builder().fsync(true).start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                // For each key: the last acknowledged value, and the values of later indeterminate writes.
                let mut acknowledged: HashMap<String, (String, Vec<String>)> = HashMap::new();
                for round in 0..400 {
                    let (name, value) = (format!("{writer}.{}", round % 20), format!("{round}"));
                    let started = now();
                    let done = set(&store, &name, &value).await;
                    assert!(now().duration_since(started).unwrap() < Duration::from_secs(5));
                    let known = acknowledged.entry(name).or_default();
                    match done {
                        Ok(()) => *known = (value, Vec::new()),
                        Err(error) if error.maybe_applied() => known.1.push(value),
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            pause(Duration::from_millis(10)).await;
                        }
                    }
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..2 {
        pause(Duration::from_millis(150)).await;
        server.kill().unwrap();
        pause(Duration::from_millis(100)).await;
        server.restart().unwrap();
        recovers(&store, Duration::from_secs(10)).await;
    }
    for writer in writers {
        for (name, (value, indeterminate)) in writer.await.unwrap() {
            let found = get(&store, &name).await.unwrap().unwrap_or_default();
            assert!(
                found == value || indeterminate.contains(&found),
                "{name}: {found}, not {value} or {indeterminate:?}"
            );
        }
    }
}

async fn one_killed_process() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    let victim = "SELECT pid FROM pg_stat_activity WHERE application_name = 'anykv' LIMIT 1";
    let pid = server.psql("kv", victim).unwrap().trim().parse().unwrap();
    server.kill_backend(pid).unwrap();
    recovers(&store, Duration::from_secs(10)).await;
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
}

async fn paused_server() {
    let mut server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    set(&store, "k", "v").await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));
    server.pause().unwrap();
    for round in 0..3 {
        let started = now();
        let read = get(&store, "k").await.unwrap_err();
        let written = store.increment(&key("n"), 1, &IncrementOptions::default()).await.unwrap_err();
        assert!(now().duration_since(started).unwrap() < Duration::from_secs(10), "round {round}");
        assert_eq!(read.kind(), ErrorKind::Unavailable, "{read:?}");
        assert!(written.maybe_applied() || written.kind() == ErrorKind::Unavailable, "{written:?}");
    }
    server.resume().unwrap();
    recovers(&store, Duration::from_secs(10)).await;
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
}

async fn queued_calls_end() {
    let mut server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    server.pause().unwrap();
    // Each value fills a statement, so the calls cannot share a statement.
    let large = "x".repeat(4 << 20);
    let calls = (0..40).map(|number| {
        let (store, large) = (store.clone(), large.clone());
        tokio::spawn(async move {
            let started = now();
            let error = set(&store, number, &large).await.unwrap_err();
            (error, now().duration_since(started).unwrap())
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut unsent = 0;
    for call in calls {
        let (error, took) = call.await.unwrap();
        assert!(took < Duration::from_secs(12), "{took:?}: {error:?}");
        assert!(error.maybe_applied() || error.kind() == ErrorKind::Unavailable, "{error:?}");
        unsent += u32::from(error.kind() == ErrorKind::Unavailable);
    }
    assert!(unsent >= 30, "{unsent}");
    server.resume().unwrap();
    recovers(&store, Duration::from_secs(10)).await;
}

async fn locked_row() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(5)).open().await.unwrap();
    for name in ["locked", "free"] {
        set(&store, name, "old").await.unwrap();
    }
    let lock = lock_row(&server, "locked").await;
    let started = now();
    let calls: Vec<_> = (0..64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = if number == 7 { "locked".to_owned() } else { format!("free{number}") };
                (name.clone(), set(&store, &name, "new").await)
            })
        })
        .collect();
    for call in calls {
        let (name, done) = call.await.unwrap();
        match done {
            Ok(()) => assert_ne!(name, "locked"),
            Err(error) => assert!(name == "locked" && error.kind() == ErrorKind::Unavailable, "{name}: {error:?}"),
        }
    }
    assert!(now().duration_since(started).unwrap() < Duration::from_secs(4));
    // A read does not wait for locks.
    assert_eq!(get(&store, "locked").await.unwrap().as_deref(), Some("old"));
    drop(lock);
    server.psql("kv", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    set(&store, "locked", "new").await.unwrap();
}

async fn beside_a_lock() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(20)).lock_timeout(Duration::from_secs(10));
    let store = store.open().await.unwrap();
    set(&store, "locked", "old").await.unwrap();
    let lock = lock_row(&server, "locked").await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { set(&store, "locked", "new").await }
    });
    pause(Duration::from_millis(50)).await;
    let started = now();
    for number in 0..100 {
        set(&store, &format!("free{number}"), "new").await.unwrap();
    }
    assert!(now().duration_since(started).unwrap() < Duration::from_secs(5));
    assert!(!waiting.is_finished());
    drop(lock);
    server.psql("kv", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    waiting.await.unwrap().unwrap();
}

/// Keeps calls without polling them, as a loop does that awaits another call in a branch of `select!`.
async fn unpolled_calls() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let (mut sets, mut gets) = (Vec::new(), Vec::new());
    // On a busy machine, a call may be done by the end of its first poll. Such a call is not kept.
    for number in 0..100 {
        let name = format!("kept{number}");
        let mut kept = Box::pin(async { (set(&store, &name, "v").await, name) });
        match poll!(&mut kept) {
            Poll::Pending => sets.push(kept),
            Poll::Ready((done, _)) => done.unwrap(),
        }
        let mut kept = Box::pin(get(&store, "k"));
        match poll!(&mut kept) {
            Poll::Pending => gets.push(kept),
            Poll::Ready(found) => drop(found.unwrap()),
        }
        if sets.len() >= 3 && gets.len() >= 3 {
            break;
        }
    }
    assert!(!sets.is_empty() && !gets.is_empty(), "no call was pending after its first poll");
    let others = async {
        set(&store, "k", "v").await.unwrap();
        get(&store, "k").await.unwrap().unwrap()
    };
    let value = tokio::time::timeout(Duration::from_secs(5), others).await.unwrap();
    assert_eq!(value, "v");
    for kept in sets {
        let (done, name) = kept.await;
        done.unwrap();
        assert_eq!(get(&store, &name).await.unwrap().as_deref(), Some("v"));
    }
    for kept in gets {
        kept.await.unwrap();
    }
}

async fn full_disk() {
    // With a small WAL, the table runs out of space first. Without space for its WAL, the server would stop.
    let server = Postgres::builder().data_on_tmpfs(256 << 20).setting("max_wal_size", "32MB");
    let server = server.setting("min_wal_size", "32MB").start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).open().await.unwrap();
    set(&store, "kept", "v").await.unwrap();
    let ballast = "CREATE UNLOGGED TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
    server.psql("kv", ballast).unwrap();
    // The value is random, because the server compresses values.
    let large: Vec<u8> = (0..1 << 16).flat_map(|_| Version::random().as_bytes().to_vec()).collect();
    let mut stored = Vec::new();
    let error = loop {
        assert!(stored.len() < 300, "the disk did not fill up");
        server.psql("kv", "CHECKPOINT").unwrap();
        let name = format!("large{}", stored.len());
        match store.set(&key(&name), large.clone().into(), &SetOptions::default()).await {
            Ok(_) => stored.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error:?}");
    assert_eq!(get(&store, "kept").await.unwrap().as_deref(), Some("v"));
    for name in &stored {
        assert_eq!(store.get(&key(name)).await.unwrap().unwrap().value, large, "{name}");
    }
    server.psql("kv", "DROP TABLE ballast").unwrap();
    recovers(&store, Duration::from_secs(10)).await;
}

async fn read_only_server() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    server.psql("kv", "ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    server.psql("kv", "SELECT pg_reload_conf()").unwrap();
    pause(Duration::from_millis(300)).await;
    let error = set(&store, "k", "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    server.psql("kv", "ALTER SYSTEM RESET default_transaction_read_only").unwrap();
    server.psql("kv", "SELECT pg_reload_conf()").unwrap();
    recovers(&store, Duration::from_secs(5)).await;
}

async fn unlogged_table() {
    let mut server = Postgres::start().unwrap();
    let store = impatient(&server).sync(SyncMode::LosesAllOnCrash).open().await.unwrap();
    assert_eq!(store.info().capabilities.durability.survives, kv_core::Survives::Process);
    set(&store, "k", "v").await.unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    recovers(&store, Duration::from_secs(10)).await;
    assert_eq!(get(&store, "k").await.unwrap(), None);
    let lossy = impatient(&server).table("lossy").sync(SyncMode::LosesLastMoments).open().await.unwrap();
    assert_eq!(lossy.info().capabilities.durability.interval, Duration::from_millis(600));
}

async fn no_deadlocks() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let other = PostgresStore::open(&server.url()).await.unwrap();
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let store = if task % 2 == 0 { store.clone() } else { other.clone() };
            tokio::spawn(async move {
                for round in 0..40 {
                    let mut keys: Vec<_> = (0..30).map(key).collect();
                    keys.rotate_left(usize::try_from((task * 3 + round) % 30).unwrap());
                    if task % 4 == 3 {
                        store.delete_many(&keys).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
                    } else if task % 4 == 2 {
                        let transaction = keys.iter().fold(Transaction::new(), |transaction, key| {
                            transaction.set(key.clone(), "t", Expiry::Never)
                        });
                        assert!(store.commit(&transaction).await.unwrap().is_committed());
                    } else {
                        let items: Vec<_> = keys.iter().map(|key| kv_core::SetItem::new(key.clone(), "v")).collect();
                        store.set_many(&items).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'kv'";
    assert_eq!(server.psql("kv", deadlocks).unwrap().trim(), "0");
}
