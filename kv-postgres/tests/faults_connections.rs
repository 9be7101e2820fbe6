//! Faults of real connections, pools that are exhausted, and calls that are dropped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{ErrorKind, Expiry, IncrementOptions, KeyPrefix, KvStore, SetOptions, Transaction, When};
use kv_postgres::{PostgresStore, deadpool_postgres};
use test_servers::postgres::Postgres;
use test_servers::proxy::{Direction, Proxy};

mod support;
use support::{TERMINATE, get, impatient, key, lock_row, now, pause, pool, recovers, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("a_terminated_connection_is_replaced", terminated_connections),
            test("a_write_whose_response_was_cut_is_indeterminate", cut_responses),
            test("a_commit_whose_response_was_cut_is_indeterminate", cut_commit),
            test("the_wait_for_a_full_pool_is_bounded", exhausted_pool),
            test("calls_wait_if_the_server_accepts_fewer_connections_than_the_pool_has", connection_limit),
            test("dropped_calls_are_not_sent_and_leave_no_tasks", dropped_calls),
            test("dropped_futures_leave_no_open_transaction", dropped_futures),
            test("a_serialization_conflict_is_retried_or_reported", serializable_sessions),
        ],
    );
}

async fn terminated_connections() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    for round in 0..20 {
        set(&store, round, "v").await.unwrap();
        server.psql("kv", TERMINATE).unwrap();
        // The pool has noticed that the connection is closed, or the read is retried on another connection.
        assert_eq!(get(&store, round).await.unwrap().as_deref(), Some("v"));
    }
}

/// Opens a store behind a proxy. The connection of the store is open, and its statements are prepared.
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

async fn cut_responses() {
    let server = Postgres::start().unwrap();
    let (proxy, store) = behind_proxy(&server).await;
    let (mut failed, mut indeterminate, mut applied) = (0, 0, 0);
    for bytes in 0..40 {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (name, bytes) =
                (format!("{direction:?}{bytes}"), bytes * if direction == Direction::ToServer { 5 } else { 1 });
            set(&store, &name, "old").await.unwrap();
            proxy.cut_after(direction, bytes);
            match store.set(&key(&name), "new".into(), &SetOptions::default()).await {
                Ok(_) => {}
                Err(error) => {
                    failed += 1;
                    if error.maybe_applied() {
                        indeterminate += 1;
                        let version = error.attempted_version().unwrap();
                        // A read shows the outcome after the server has noticed the end of the connection.
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
    assert!(
        failed >= 20 && indeterminate > 0 && applied > 0,
        "{failed} failed, {indeterminate} indeterminate, {applied} applied"
    );
}

async fn cut_commit() {
    let server = Postgres::start().unwrap();
    let (proxy, store) = behind_proxy(&server).await;
    let (mut indeterminate, mut applied) = (0, 0);
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
        let (one, last) = (store.contains(&one).await.unwrap(), store.get(&two).await.unwrap());
        assert_eq!(one, last.is_some(), "the transaction was partially applied");
        match done {
            Ok(outcome) => assert!(outcome.is_committed() && one),
            Err(error) if error.maybe_applied() => {
                indeterminate += 1;
                applied += u32::from(one);
                let version = error.attempted_version();
                assert!(version.is_some());
                assert!(
                    last.is_none_or(|entry| entry.version == version),
                    "the error must have the version of the last write"
                );
            }
            Err(error) => assert!(!one && error.is_retryable(), "{error:?}"),
        }
    }
    assert!(indeterminate > 0 && applied > 0, "{indeterminate} indeterminate, {applied} applied");
}

async fn exhausted_pool() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).pool(pool(&server, 1)).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    // Calls that have timed out hold no connection and no longer wait for one, so the store recovers.
    for own in [true, false] {
        let application_pool = pool(&server, 1);
        let store = impatient(&server).connections(1);
        let store = if own { store } else { store.pool(application_pool.clone()) }.open().await.unwrap();
        let lock = if own { Some(lock_row(&server, "k").await) } else { None };
        let held = if own { None } else { Some(application_pool.get().await.unwrap()) };
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

async fn connection_limit() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 3").unwrap();
    server.psql("kv", "GRANT CREATE ON SCHEMA public TO few").unwrap();
    let store = PostgresStore::open(&server.url_of("few", "few", "kv")).await.unwrap();
    for own in [true, false] {
        let store = if own {
            store.clone()
        } else {
            store.close().await.unwrap();
            let config = server.url_of("few", "few", "kv").parse().unwrap();
            let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
            let pool = deadpool_postgres::Pool::builder(manager).max_size(8).build().unwrap();
            PostgresStore::builder().pool(pool).open().await.unwrap()
        };
        set(&store, "k", "v").await.unwrap();
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        assert!(store.touch(&key("k"), kv_core::NewExpiry::Never).await.unwrap());
                    }
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    }
}

async fn dropped_calls() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
    let value = "x".repeat(1_000);
    for number in 0..20_000 {
        let mut write = Box::pin(set(&store, number, &value));
        let _ = futures_util::poll!(&mut write);
        drop(write);
        let counter = key(format!("n{number}"));
        let options = IncrementOptions::default();
        let mut count = store.increment(&counter, 1, &options);
        let _ = futures_util::poll!(&mut count);
        drop(count);
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks < 500, "{tasks} tasks are left");
    let started = now();
    set(&store, "k", "w").await.unwrap();
    assert!(store.touch(&key("k"), kv_core::NewExpiry::Never).await.unwrap());
    let took = now().duration_since(started).unwrap();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let written: u32 = server.psql("kv", "SELECT count(*) FROM kv").unwrap().trim().parse().unwrap();
    assert!(written < 10_000, "{written} dropped calls were sent");
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
                    let _ = store.publish(&key("c"), "m".into()).await;
                    let _ = store.subscribe(&KeyPrefix::ALL).await;
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
    // No connection of the store stays inside a transaction.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'anykv' AND state LIKE 'idle in%'";
    let mut rounds = 0;
    while server.psql("kv", open).unwrap().trim() != "0" {
        rounds += 1;
        assert!(rounds < 100, "a connection is still inside a transaction");
        pause(Duration::from_millis(50)).await;
    }
}

async fn serializable_sessions() {
    // Uses the application's pool, because the store sets the isolation level of its own sessions.
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
