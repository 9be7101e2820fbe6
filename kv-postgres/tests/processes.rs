//! Several processes on one table.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    DeleteOptions, Expiry, GapReason, IncrementOptions, KeyPrefix, KvStore, MessageEvent, NewExpiry, SetOptions,
    Transaction, WatchEvent, WatchQuery, When,
};
use kv_postgres::PostgresStore;
use test_servers::postgres::Postgres;

mod support;
use support::{KillOnDrop, child, key, pause, set, test};

fn main() {
    support::main(
        |name| support::block_on(run_child(name.to_owned())),
        vec![
            test("sixteen_processes_open_an_empty_database_at_once", open_at_once),
            test("a_watcher_receives_changes_and_messages_of_another_process", watch_another),
            test("increments_of_four_processes_are_exact", increments),
            test("only_one_of_four_processes_creates_an_entry", creators),
            test("the_triggers_are_disabled_after_a_watching_process_was_killed", triggers_are_disabled),
            test("the_triggers_are_disabled_if_only_a_subscription_is_left", triggers_beside_a_subscription),
            test("opening_waits_for_other_processes_longer_than_the_lock_timeout", opening_waits),
        ],
    );
}

async fn run_child(name: String) {
    let store = PostgresStore::open(&support::url()).await.unwrap();
    match name.as_str() {
        "open" => set(&store, std::process::id(), "here").await.unwrap(),
        "write" => write(&store).await,
        "watch" => {
            let _stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
            println!("ready");
            wait_for_parent();
        }
        "increment" => {
            println!("ready");
            wait_for_parent();
            for _ in 0..250 {
                store.increment(&key("count"), 1, &IncrementOptions::default()).await.unwrap();
            }
        }
        "create" => {
            println!("ready");
            wait_for_parent();
            for number in 0..100 {
                let options = SetOptions::default().with_when(When::Absent);
                if store.set(&key(number), "mine".into(), &options).await.unwrap().is_stored() {
                    println!("{number}");
                }
            }
        }
        _ => panic!("unknown child"),
    }
}

/// Makes every kind of write.
async fn write(store: &PostgresStore) {
    let plain = SetOptions::default();
    for number in 0..100 {
        set(store, number, &number.to_string()).await.unwrap();
    }
    let _ = store.delete(&key(1), &DeleteOptions::default()).await.unwrap();
    store.touch(&key(2), NewExpiry::After(Duration::from_secs(1_000))).await.unwrap();
    store.increment(&key("count"), 5, &IncrementOptions::default()).await.unwrap();
    let transaction = Transaction::new().set(key("a"), "1", Expiry::Never).delete(key(3));
    assert!(store.commit(&transaction).await.unwrap().is_committed());
    let short = plain.clone().with_expiry(Expiry::After(Duration::from_millis(100)));
    let _ = store.set(&key("short"), "x".into(), &short).await.unwrap();
    set(store, "nested", "x").await.unwrap();
    store.clear(&key("nested").into()).await.unwrap();
    store.publish(&key("channel"), vec![7; 100_000].into()).await.unwrap();
    store.publish(&key("channel"), "small".into()).await.unwrap();
    set(store, "end", "x").await.unwrap();
}

fn wait_for_parent() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts children, makes them begin at the same time, and returns their output.
fn at_once(name: &str, count: usize, url: &str) -> Vec<String> {
    let mut children: Vec<_> = (0..count)
        .map(|_| {
            let mut running = KillOnDrop(child(name, url).spawn().unwrap());
            let mut lines = BufReader::new(running.0.stdout.take().unwrap());
            let mut ready = String::new();
            lines.read_line(&mut ready).unwrap();
            assert_eq!(ready, "ready\n");
            (running, lines)
        })
        .collect();
    for (running, _) in &mut children {
        running.0.stdin.take().unwrap().write_all(b".").unwrap();
    }
    let mut outputs = Vec::new();
    for (mut running, mut lines) in children {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(running.0.wait().unwrap().success());
        outputs.push(rest);
    }
    outputs
}

async fn open_at_once() {
    let server = Postgres::start().unwrap();
    for round in 0..3 {
        let url = format!("{}?schema=Made&table=Here", server.create_database(&format!("empty{round}")).unwrap());
        let children: Vec<_> =
            (0..16).map(|_| KillOnDrop(child("open", &url).stderr(Stdio::inherit()).spawn().unwrap())).collect();
        let ids: Vec<_> = children.iter().map(|running| running.0.id()).collect();
        for mut running in children {
            assert!(running.0.wait().unwrap().success());
        }
        let store = PostgresStore::open(&url).await.unwrap();
        for id in ids {
            assert!(store.contains(&key(id)).await.unwrap());
        }
    }
}

async fn watch_another() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut changes = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    let mut running = KillOnDrop(child("write", &server.url()).spawn().unwrap());
    let receiving = async {
        let (mut is_live, mut has_ended) = (HashMap::new(), false);
        // The sweeper reports the expiry of the short-lived entry.
        while !has_ended || is_live.get(&key("short")) != Some(&false) {
            match changes.next().await.unwrap().unwrap() {
                WatchEvent::Set { key: own, .. } => {
                    has_ended |= own == key("end");
                    is_live.insert(own, true);
                }
                WatchEvent::Removed { key } => drop(is_live.insert(key, false)),
                WatchEvent::Gap { reason: GapReason::Lagged } => panic!("the inbox must hold a hundred keys"),
                other => panic!("{other:?}"),
            }
        }
        is_live
    };
    let is_live = tokio::time::timeout(Duration::from_secs(20), receiving).await.unwrap();
    assert!(running.0.wait().unwrap().success());
    for number in 0..100 {
        assert_eq!(is_live.get(&key(number)), Some(&![1, 3].contains(&number)), "{number}");
    }
    assert_eq!((is_live.get(&key("count")), is_live.get(&key("a"))), (Some(&true), Some(&true)));
    assert_eq!(is_live.get(&key("nested")), Some(&false));
    for expected in [vec![7; 100_000], b"small".to_vec()] {
        let message = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap();
        match message.unwrap().unwrap() {
            MessageEvent::Message(message) => assert_eq!(message.payload, expected),
            other => panic!("{other:?}"),
        }
    }
}

async fn increments() {
    let server = Postgres::start().unwrap();
    at_once("increment", 4, &server.url());
    let store = PostgresStore::open(&server.url()).await.unwrap();
    assert_eq!(support::get(&store, "count").await.unwrap().as_deref(), Some("1000"));
}

async fn creators() {
    let server = Postgres::start().unwrap();
    let outputs = at_once("create", 4, &server.url());
    let mut won: Vec<u32> = outputs.iter().flat_map(|lines| lines.lines().map(|line| line.parse().unwrap())).collect();
    won.sort_unstable();
    assert_eq!(won, (0..100).collect::<Vec<_>>());
}

/// After a watching process was killed, the triggers are still enabled. The housekeeping of another process disables
/// the triggers, but not while a process watches.
async fn triggers_are_disabled() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::builder().url(&server.url()).unwrap().open().await.unwrap();
    assert_eq!(enabled_triggers(&server), "0");
    let mut running = KillOnDrop(child("watch", &server.url()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!((ready.as_str(), enabled_triggers(&server).as_str()), ("ready\n", "2"));
    store.sweep().await.unwrap();
    assert_eq!(enabled_triggers(&server), "2", "the other process still watches");
    drop(running);
    let mut rounds = 0;
    while enabled_triggers(&server) != "0" {
        rounds += 1;
        assert!(rounds < 100, "the triggers are still enabled");
        pause(Duration::from_millis(50)).await;
        store.sweep().await.unwrap();
    }
}

/// Returns the number of enabled triggers.
fn enabled_triggers(server: &Postgres) -> String {
    let sql = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'anykv%' AND tgenabled <> 'D'";
    server.psql("kv", sql).unwrap().trim().to_owned()
}

async fn triggers_beside_a_subscription() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    drop(store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap());
    assert_eq!(enabled_triggers(&server), "2");
    // The listener stays connected because of the subscriber, and releases the watchers' lock after half a minute
    // without a watcher.
    for _ in 0..600 {
        pause(Duration::from_millis(100)).await;
        store.sweep().await.unwrap();
        if enabled_triggers(&server) == "0" {
            break;
        }
    }
    assert_eq!(enabled_triggers(&server), "0");
    store.publish(&key("c"), "still here".into()).await.unwrap();
    let event = messages.next().await.unwrap().unwrap();
    assert!(matches!(event, MessageEvent::Message(message) if message.payload == "still here"));
    // A new watch enables the triggers again.
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    assert_eq!(enabled_triggers(&server), "2");
    set(&store, "k", "v").await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));
}

async fn opening_waits() {
    let server = Postgres::start().unwrap();
    // Processes create tables under this lock.
    let mut holder = Command::new("psql");
    holder.arg(server.url()).arg("-c").arg("BEGIN; SELECT pg_advisory_xact_lock(1634432561, 0); SELECT pg_sleep(2)");
    let _holder = KillOnDrop(holder.stdout(Stdio::null()).spawn().unwrap());
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    while server.psql("kv", held).unwrap().trim() != "1" {
        pause(Duration::from_millis(20)).await;
    }
    let builder = PostgresStore::builder().url(&server.url()).unwrap().lock_timeout(Duration::from_millis(50));
    let store = builder.open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
}
