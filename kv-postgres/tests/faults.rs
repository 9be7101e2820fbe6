//! Servers and connections that fail, each for real.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ErrorKind, Expiry, GapReason, IncrementOptions, KeyPrefix, KvStore, MessageEvent, SetOptions, Transaction, Version,
    WatchEvent, WatchQuery, When,
};
use kv_postgres::deadpool_postgres::{Manager, Pool};
use kv_postgres::{PostgresStore, SyncMode};
use test_servers::postgres::Postgres;
use test_servers::proxy::{Direction, Proxy};

mod support;
use support::{get, impatient, key, now, pause, recovers, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("a_server_that_is_killed_under_load_loses_nothing", killed_under_load),
            test("one_killed_process_of_the_server_is_survived", one_killed_process),
            test("every_terminated_connection_is_made_anew", terminated_connections),
            test("a_watcher_hears_of_a_gap_when_its_connection_was_terminated", terminated_listener),
            test("a_paused_server_is_given_up_in_time", paused_server),
            test("a_write_whose_answer_was_cut_is_in_doubt", cut_answers),
            test("a_commit_whose_answer_was_cut_is_in_doubt", cut_commit),
            test("a_pool_without_a_free_connection_is_waited_for_in_bounds", exhausted_pool),
            test("a_full_disk_is_told_and_survived", full_disk),
            test("a_server_that_takes_no_writes_is_read", read_only_server),
            test("a_locked_row_holds_up_no_other", locked_row),
            test("dropped_futures_leave_no_transaction_behind", dropped_futures),
            test("what_meets_others_is_repeated_or_told", serializable_sessions),
            test("an_unlogged_table_is_declared_as_one", unlogged_table),
            test("entries_written_together_with_other_sessions_are_never_in_a_deadlock", no_deadlocks),
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
                // What each key surely has, and what it may have instead.
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
        for (name, (value, perhaps)) in writer.await.unwrap() {
            let found = get(&store, &name).await.unwrap().unwrap_or_default();
            assert!(found == value || perhaps.contains(&found), "{name}: {found}, not {value} or {perhaps:?}");
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

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'anykv'";

async fn terminated_connections() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    for round in 0..20 {
        set(&store, round, "v").await.unwrap();
        server.psql("kv", TERMINATE).unwrap();
        // The driver has noticed, or the read takes another connection.
        assert_eq!(get(&store, round).await.unwrap().as_deref(), Some("v"));
    }
}

async fn terminated_listener() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    for round in 0..5 {
        server.psql("kv", TERMINATE).unwrap();
        let gap = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap();
        assert_eq!(gap.unwrap().unwrap(), WatchEvent::Gap { reason: GapReason::Reconnected });
        let gap = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.unwrap();
        assert_eq!(gap.unwrap().unwrap(), MessageEvent::Gap { reason: GapReason::Reconnected });
        // Behind the gap everything is heard again.
        set(&store, round, "v").await.unwrap();
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Set { key: heard, .. } => assert_eq!(heard, key(round)),
            other => panic!("{other:?}"),
        }
        store.publish(&key("c"), "m".into()).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.unwrap();
        assert!(matches!(heard.unwrap().unwrap(), MessageEvent::Message(_)));
    }
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
        assert!(now().duration_since(started).unwrap() < Duration::from_secs(6), "round {round}");
        assert_eq!(read.kind(), ErrorKind::Unavailable, "{read:?}");
        assert!(written.maybe_applied() || written.kind() == ErrorKind::Unavailable, "{written:?}");
    }
    server.resume().unwrap();
    recovers(&store, Duration::from_secs(10)).await;
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
}

/// A store behind a proxy, warm, with its connections made.
async fn behind_proxy(server: &Postgres) -> (Proxy, PostgresStore) {
    let proxy = Proxy::start(server.address()).unwrap();
    let url = server.url().replace(&server.port().to_string(), &proxy.port().to_string());
    let second = Duration::from_secs(1);
    let builder = PostgresStore::builder().url(&url).unwrap().connections(1).sweep_interval(Duration::from_secs(600));
    let store = builder.connect_timeout(second).operation_timeout(second).open().await.unwrap();
    for _ in 0..3 {
        set(&store, "warm", "v").await.unwrap();
        get(&store, "warm").await.unwrap();
    }
    (proxy, store)
}

async fn cut_answers() {
    let server = Postgres::start().unwrap();
    let (proxy, store) = behind_proxy(&server).await;
    let (mut lost, mut doubtful, mut applied) = (0, 0, 0);
    for bytes in 0..40 {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (name, bytes) =
                (format!("{direction:?}{bytes}"), bytes * if direction == Direction::ToServer { 5 } else { 1 });
            set(&store, &name, "old").await.unwrap();
            proxy.cut_after(direction, bytes);
            match store.set(&key(&name), "new".into(), &SetOptions::default()).await {
                Ok(_) => {}
                Err(error) => {
                    lost += 1;
                    if error.maybe_applied() {
                        doubtful += 1;
                        let version = error.attempted_version().unwrap();
                        // A `get` tells whether it happened, once the server has seen the end of the connection.
                        recovers(&store, Duration::from_secs(5)).await;
                        let entry = store.get(&key(&name)).await.unwrap().unwrap();
                        let is_new = entry.version == Some(version);
                        applied += u32::from(is_new);
                        assert_eq!(entry.value, if is_new { "new" } else { "old" });
                    } else {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                        recovers(&store, Duration::from_secs(5)).await;
                        assert_eq!(get(&store, &name).await.unwrap().as_deref(), Some("old"));
                    }
                }
            }
            proxy.pass();
            recovers(&store, Duration::from_secs(5)).await;
        }
    }
    assert!(lost >= 20 && doubtful > 0 && applied > 0, "{lost} lost, {doubtful} doubtful, {applied} applied");
}

async fn cut_commit() {
    let server = Postgres::start().unwrap();
    let (proxy, store) = behind_proxy(&server).await;
    let (mut doubtful, mut applied) = (0, 0);
    for bytes in (0..800).step_by(20) {
        let (one, two) = (key(format!("one{bytes}")), key(format!("two{bytes}")));
        let transaction = Transaction::new().check(one.clone(), When::Absent).set(one.clone(), "v", Expiry::Never).set(
            two.clone(),
            "v",
            Expiry::Never,
        );
        proxy.cut_after(Direction::ToClient, bytes);
        let done = store.commit(&transaction).await;
        proxy.pass();
        recovers(&store, Duration::from_secs(5)).await;
        let (one, two) = (store.contains(&one).await.unwrap(), store.contains(&two).await.unwrap());
        assert_eq!(one, two, "half of a transaction");
        match done {
            Ok(outcome) => assert!(outcome.is_committed() && one),
            Err(error) if error.maybe_applied() => {
                doubtful += 1;
                applied += u32::from(one);
                assert!(error.attempted_version().is_some());
            }
            Err(error) => assert!(!one && error.is_retryable(), "{error:?}"),
        }
    }
    assert!(doubtful > 0 && applied > 0, "{doubtful} doubtful, {applied} applied");
}

async fn exhausted_pool() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).pool(pool(&server, 1)).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    // Dropped and given up: none of them holds a connection or a place in the queue for ever.
    for own in [true, false] {
        let given = pool(&server, 1);
        let store = impatient(&server).connections(1);
        let store = if own { store } else { store.pool(given.clone()) }.open().await.unwrap();
        let lock = if own { Some(lock_row(&server, "k").await) } else { None };
        let held = if own { None } else { Some(given.get().await.unwrap()) };
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let started = now();
                    let done = store.touch(&key("k"), kv_core::NewExpiry::Never).await;
                    (done, now().duration_since(started).unwrap())
                })
            })
            .collect();
        let mut kinds = Vec::new();
        for call in calls {
            let (done, took) = call.await.unwrap();
            assert!(took < Duration::from_secs(3), "{took:?}");
            kinds.push(done.unwrap_err().kind());
        }
        assert!(kinds.contains(&ErrorKind::Capacity), "{kinds:?}");
        drop((lock, held));
        server
            .psql("kv", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .unwrap();
        recovers(&store, Duration::from_secs(5)).await;
        assert!(store.touch(&key("k"), kv_core::NewExpiry::Never).await.unwrap());
    }
}

/// A pool as an application would make it.
fn pool(server: &Postgres, connections: usize) -> Pool {
    let config: tokio_postgres::Config = server.url().parse().unwrap();
    let manager = Manager::new(config, tokio_postgres::NoTls);
    Pool::builder(manager).max_size(connections).build().unwrap()
}

/// Holds a row's lock until it is dropped, from a process of its own.
async fn lock_row(server: &Postgres, row: &str) -> support::Killed {
    let mut command = std::process::Command::new("psql");
    command
        .arg(server.url())
        .arg("-c")
        .arg(format!("BEGIN; SELECT key FROM kv WHERE key = '{row}' FOR UPDATE; SELECT pg_sleep(30)"))
        .stdout(std::process::Stdio::null());
    let holder = support::Killed(command.spawn().unwrap());
    let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT key%' AND wait_event = 'PgSleep'";
    while server.psql("kv", held).unwrap().trim() != "1" {
        pause(Duration::from_millis(20)).await;
    }
    holder
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
    // Reading waits for nobody.
    assert_eq!(get(&store, "locked").await.unwrap().as_deref(), Some("old"));
    drop(lock);
    server.psql("kv", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    set(&store, "locked", "new").await.unwrap();
}

async fn full_disk() {
    // A log that is kept small, so that it is the table that finds no room: without room for its log the server ends.
    let server = Postgres::builder().data_on_tmpfs(256 << 20).setting("max_wal_size", "32MB");
    let server = server.setting("min_wal_size", "32MB").start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).open().await.unwrap();
    set(&store, "kept", "v").await.unwrap();
    let ballast = "CREATE UNLOGGED TABLE ballast AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
    server.psql("kv", ballast).unwrap();
    // Random, as the server compresses.
    let large: Vec<u8> = (0..1 << 16).flat_map(|_| Version::random().as_bytes().to_vec()).collect();
    let mut stored = Vec::new();
    let error = loop {
        assert!(stored.len() < 300, "the disk was never full");
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

async fn dropped_futures() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(5)).connections(3).open().await.unwrap();
    set(&store, "k", "0").await.unwrap();
    let dropped: Vec<_> = (0..300_u64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let limit = Duration::from_micros(number * 37 % 3_000);
                let transaction = Transaction::new().check(key("k"), When::Present).set(key("t"), "v", Expiry::Never);
                let calls = async {
                    let _ = store.commit(&transaction).await;
                    let _ = store.increment(&key("n"), 1, &IncrementOptions::default()).await;
                    let _ = set(&store, number, "v").await;
                    let _ = get(&store, number).await;
                };
                let _ = tokio::time::timeout(limit, calls).await;
            })
        })
        .collect();
    for task in dropped {
        task.await.unwrap();
    }
    for number in 0..50 {
        set(&store, "after", &number.to_string()).await.unwrap();
        assert_eq!(get(&store, "after").await.unwrap(), Some(number.to_string()));
    }
    store.close().await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'anykv' AND state LIKE 'idle in%'";
    assert_eq!(server.psql("kv", open).unwrap().trim(), "0");
}

async fn serializable_sessions() {
    // Through a pool that was given, whose sessions are not ours to set.
    let server = Postgres::start().unwrap();
    server.psql("kv", "ALTER ROLE kv SET default_transaction_isolation = 'serializable'").unwrap();
    let store = PostgresStore::builder().pool(pool(&server, 8)).open().await.unwrap();
    let counters: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut counted = 0_i64;
                for _ in 0..50 {
                    match store.increment(&key("n"), 1, &IncrementOptions::default()).await {
                        Ok(_) => counted += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
                    }
                }
                counted
            })
        })
        .collect();
    let mut counted = 0;
    for counter in counters {
        counted += counter.await.unwrap();
    }
    assert_eq!(get(&store, "n").await.unwrap(), Some(counted.to_string()));
    assert!(counted > 200, "{counted}");
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
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).open().await.unwrap();
    let other = impatient(&server).operation_timeout(Duration::from_secs(10)).open().await.unwrap();
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
