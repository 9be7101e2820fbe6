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
use support::{Killed, child, key, pause, set, test};

fn main() {
    support::main(
        |name| support::block_on(run_child(name.to_owned())),
        vec![
            test("sixteen_processes_open_an_empty_database_at_once", open_at_once),
            test("a_watcher_hears_what_another_process_writes_and_publishes", watch_another),
            test("increments_of_four_processes_are_exact", increments),
            test("one_of_the_creators_in_four_processes_wins", creators),
            test("nobody_pays_for_watchers_that_are_gone", trigger_is_disabled),
            test("nobody_pays_for_a_watch_that_was_dropped_beside_a_subscription", trigger_beside_a_subscription),
            test("opening_waits_for_others_that_open_however_short_the_wait_for_a_row_is", opening_waits),
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
        _ => panic!("no such child"),
    }
}

/// Every kind of write once.
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

/// Starts children that wait for each other, lets them go at once, and gives what they said.
fn at_once(name: &str, count: usize, url: &str) -> Vec<String> {
    let mut children: Vec<_> = (0..count)
        .map(|_| {
            let mut running = Killed(child(name, url).spawn().unwrap());
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
    let mut said = Vec::new();
    for (mut running, mut lines) in children {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(running.0.wait().unwrap().success());
        said.push(rest);
    }
    said
}

async fn open_at_once() {
    let server = Postgres::start().unwrap();
    for round in 0..3 {
        let url = format!("{}?schema=Made&table=Here", server.create_database(&format!("empty{round}")).unwrap());
        let children: Vec<_> =
            (0..16).map(|_| Killed(child("open", &url).stderr(Stdio::inherit()).spawn().unwrap())).collect();
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
    let mut running = Killed(child("write", &server.url()).spawn().unwrap());
    let hearing = async {
        let (mut heard, mut is_ended) = (HashMap::new(), false);
        // The short-lived entry expires by itself, and a sweep tells.
        while !is_ended || heard.get(&key("short")) != Some(&false) {
            match changes.next().await.unwrap().unwrap() {
                WatchEvent::Set { key: own, .. } => {
                    is_ended |= own == key("end");
                    heard.insert(own, true);
                }
                WatchEvent::Removed { key } => drop(heard.insert(key, false)),
                WatchEvent::Gap { reason: GapReason::Lagged } => panic!("a hundred keys are not too many"),
                other => panic!("{other:?}"),
            }
        }
        heard
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), hearing).await.unwrap();
    assert!(running.0.wait().unwrap().success());
    for number in 0..100 {
        assert_eq!(heard.get(&key(number)), Some(&![1, 3].contains(&number)), "{number}");
    }
    assert_eq!((heard.get(&key("count")), heard.get(&key("a"))), (Some(&true), Some(&true)));
    assert_eq!(heard.get(&key("nested")), Some(&false));
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
    let said = at_once("create", 4, &server.url());
    let mut won: Vec<u32> = said.iter().flat_map(|lines| lines.lines().map(|line| line.parse().unwrap())).collect();
    won.sort_unstable();
    assert_eq!(won, (0..100).collect::<Vec<_>>());
}

/// A process that watched and was killed leaves the trigger enabled; whoever keeps the table in order disables it, and never while
/// somebody else watches.
async fn trigger_is_disabled() {
    let server = Postgres::start().unwrap();
    let enabled = || {
        let sql = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'anykv%' AND tgenabled <> 'D'";
        server.psql("kv", sql).unwrap().trim().to_owned()
    };
    let store = PostgresStore::builder().url(&server.url()).unwrap().open().await.unwrap();
    assert_eq!(enabled(), "0");
    let mut running = Killed(child("watch", &server.url()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!((ready.as_str(), enabled().as_str()), ("ready\n", "2"));
    store.sweep().await.unwrap();
    assert_eq!(enabled(), "2", "while the other process watches");
    drop(running);
    let mut rounds = 0;
    while enabled() != "0" {
        rounds += 1;
        assert!(rounds < 100, "the trigger stays enabled");
        pause(Duration::from_millis(50)).await;
        store.sweep().await.unwrap();
    }
}

/// How many of the triggers are enabled.
fn enabled(server: &Postgres) -> String {
    let sql = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'anykv%' AND tgenabled <> 'D'";
    server.psql("kv", sql).unwrap().trim().to_owned()
}

async fn trigger_beside_a_subscription() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    drop(store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap());
    assert_eq!(enabled(&server), "2");
    // The connection stays for the subscriber, and after half a minute without watchers it holds no lock of theirs.
    for _ in 0..600 {
        pause(Duration::from_millis(100)).await;
        store.sweep().await.unwrap();
        if enabled(&server) == "0" {
            break;
        }
    }
    assert_eq!(enabled(&server), "0");
    store.publish(&key("c"), "still here".into()).await.unwrap();
    let heard = messages.next().await.unwrap().unwrap();
    assert!(matches!(heard, MessageEvent::Message(message) if message.payload == "still here"));
    // Who watches again is told of every change.
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    assert_eq!(enabled(&server), "2");
    set(&store, "k", "v").await.unwrap();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));
}

async fn opening_waits() {
    let server = Postgres::start().unwrap();
    // The lock under which tables are created.
    let mut holder = Command::new("psql");
    holder.arg(server.url()).arg("-c").arg("BEGIN; SELECT pg_advisory_xact_lock(1634432561, 0); SELECT pg_sleep(2)");
    let _holder = Killed(holder.stdout(Stdio::null()).spawn().unwrap());
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    while server.psql("kv", held).unwrap().trim() != "1" {
        pause(Duration::from_millis(20)).await;
    }
    let builder = PostgresStore::builder().url(&server.url()).unwrap().lock_timeout(Duration::from_millis(50));
    let store = builder.open().await.unwrap();
    set(&store, "k", "v").await.unwrap();
}
