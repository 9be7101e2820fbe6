//! The connection for notifications: lost, without a place at the server, and beside locks of the table.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{ErrorKind, GapReason, KeyPrefix, KvStore, MessageEvent, WatchEvent, WatchQuery};
use kv_postgres::PostgresStore;
use test_servers::postgres::Postgres;

mod support;
use support::{KillOnDrop, TERMINATE, impatient, key, message_gap, now, pause, set, test, watch_gap};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("watchers_and_subscribers_get_a_gap_after_their_connection_was_terminated", terminated_listener),
            test("a_watcher_gets_changes_after_a_reconnect_to_a_locked_table", locked_table),
            test("the_listener_connects_if_the_pool_has_all_connections_that_the_server_accepts", listener_place),
            test("a_message_that_commits_after_the_subscription_arrives", slow_commit),
            test("watching_a_locked_table_ends_with_the_operation_timeout", watch_of_locked_table),
        ],
    );
}

async fn terminated_listener() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    for round in 0..5 {
        server.psql("kv", TERMINATE).unwrap();
        assert_eq!(watch_gap(&mut watch).await, GapReason::Reconnected);
        assert_eq!(message_gap(&mut messages).await, GapReason::Reconnected);
        // After the gap, changes and messages arrive again.
        set(&store, round, "v").await.unwrap();
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Set { key: changed, .. } => assert_eq!(changed, key(round)),
            other => panic!("{other:?}"),
        }
        store.publish(&key("c"), "m".into()).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.unwrap();
        assert!(matches!(event.unwrap().unwrap(), MessageEvent::Message(_)));
    }
}

async fn locked_table() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    // The triggers are disabled as if there were no watchers. A lock then keeps the listener for some seconds from
    // enabling the triggers again.
    server.psql("kv", "ALTER TABLE kv DISABLE TRIGGER USER").unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                    AND pid <> pg_backend_pid()";
    let mut holder = Command::new("psql");
    holder
        .arg(server.url())
        .arg("-c")
        .arg(format!("BEGIN; LOCK TABLE kv IN SHARE MODE; {terminate}; SELECT pg_sleep(10)"));
    let _holder = KillOnDrop(holder.stdout(Stdio::null()).spawn().unwrap());
    watch_gap(&mut watch).await;
    set(&store, "after", "v").await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Set { .. }), "{event:?}");
}

/// Makes the pool of a store grow as far as it can.
async fn grow(store: &PostgresStore) {
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let _ = store.touch(&key("k"), kv_core::NewExpiry::Never).await.unwrap();
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

async fn listener_place() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 3").unwrap();
    server.psql("kv", "GRANT CREATE ON SCHEMA public TO few").unwrap();
    let store = PostgresStore::open(&server.url_of("few", "few", "kv")).await.unwrap();
    set(&store, "k", "v").await.unwrap();
    grow(&store).await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'";
    assert_eq!(server.psql("kv", connections).unwrap().trim(), "3");
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    // The connection of the listener, which holds the watchers' lock, is lost while calls make the pool grow. The
    // listener reconnects nevertheless.
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    for _ in 0..3 {
        grow(&store).await;
        assert_eq!(server.psql("kv", terminate).unwrap().trim(), "t");
        grow(&store).await;
        assert_eq!(message_gap(&mut messages).await, GapReason::Reconnected);
        assert_eq!(watch_gap(&mut watch).await, GapReason::Reconnected);
    }
    store.publish(&key("c"), "m".into()).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap();
    assert!(matches!(event.unwrap().unwrap(), MessageEvent::Message(_)));
}

/// A subscriber connects while a transaction that publishes a message is still running.
async fn slow_commit() {
    let server = Postgres::start().unwrap();
    let patient = Duration::from_secs(60);
    let publisher =
        PostgresStore::builder().url(&server.url()).unwrap().lock_timeout(patient).operation_timeout(patient);
    let publisher = publisher.open().await.unwrap();
    let subscriber = PostgresStore::open(&server.url()).await.unwrap();
    let trigger = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ \
                   BEGIN PERFORM pg_advisory_xact_lock(1, 2); RETURN NULL; END $$; \
                   CREATE TRIGGER wait AFTER INSERT ON \"kv letters\" FOR EACH ROW EXECUTE FUNCTION wait()";
    server.psql("kv", trigger).unwrap();
    let holder = support::pool(&server, 1).get().await.unwrap();
    holder.batch_execute("SELECT pg_advisory_lock(1, 2)").await.unwrap();
    let payload = vec![7; 100_000];
    let message = payload.clone().into();
    let call = tokio::spawn(async move { publisher.publish(&key("c"), message).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while server.psql("kv", waiting).unwrap().trim() != "1" {
        assert!(!call.is_finished());
        pause(Duration::from_millis(20)).await;
    }
    // A later transaction has ended already.
    set(&subscriber, "k", "v").await.unwrap();
    let mut messages = subscriber.subscribe(&KeyPrefix::ALL).await.unwrap();
    holder.batch_execute("SELECT pg_advisory_unlock(1, 2)").await.unwrap();
    call.await.unwrap().unwrap();
    let event = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&event, MessageEvent::Message(message) if message.payload == payload), "{event:?}");
}

/// Starts a process that locks the table against changes of its triggers, until the returned value is dropped.
async fn lock_table(server: &Postgres, seconds: f32) -> KillOnDrop {
    let mut holder = Command::new("psql");
    let sql = format!("BEGIN; LOCK TABLE kv IN ROW EXCLUSIVE MODE; SELECT pg_sleep({seconds})");
    holder.arg(server.url()).arg("-c").arg(sql);
    let holder = KillOnDrop(holder.stdout(Stdio::null()).spawn().unwrap());
    let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND wait_event = 'PgSleep'";
    while server.psql("kv", held).unwrap().trim() != "1" {
        pause(Duration::from_millis(20)).await;
    }
    holder
}

async fn watch_of_locked_table() {
    let server = Postgres::start().unwrap();
    let store = impatient(&server).open().await.unwrap();
    let holder = lock_table(&server, 30.0).await;
    let started = now();
    let error = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.map(drop).unwrap_err();
    let took = now().duration_since(started).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(took < Duration::from_millis(1_800), "{took:?}");
    // No attempt still waits for a lock. Other programs would have to wait for such an attempt.
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    assert_eq!(server.psql("kv", waiting).unwrap().trim(), "0");
    drop(holder);
    server.psql("kv", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap();
    // A longer operation timeout outlasts a longer lock.
    let store = impatient(&server).operation_timeout(Duration::from_secs(30)).open().await.unwrap();
    let _holder = lock_table(&server, 14.0).await;
    store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.map(drop).unwrap();
}
