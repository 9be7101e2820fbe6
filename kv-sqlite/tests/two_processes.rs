//! Several processes that use one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Clock, DeleteOptions, ErrorKind, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, NewExpiry, SetOptions,
    SystemClock, Transaction, WatchEvent, WatchQuery, WatchStream, When,
};
use kv_sqlite::{SqliteStore, rusqlite};

mod support;
use support::{KillOnDrop, block_on, child, test};

fn main() {
    support::main(
        |name| block_on(run_child(name)),
        vec![
            test("sixteen_processes_open_an_empty_file_at_once", sixteen_processes_open_an_empty_file_at_once),
            test("a_watcher_gets_the_changes_of_another_process", a_watcher_gets_the_changes_of_another_process),
            test("the_lease_of_a_killed_watcher_expires", the_lease_of_a_killed_watcher_expires),
            test(
                "a_watcher_that_lags_behind_another_process_gets_a_gap",
                a_watcher_that_lags_behind_another_process_gets_a_gap,
            ),
            test("increments_of_four_processes_are_exact", increments_of_four_processes_are_exact),
            test("busy_processes_do_not_starve_each_other", busy_processes_do_not_starve_each_other),
            test("one_of_four_processes_creates_a_key", one_of_four_processes_creates_a_key),
            test(
                "a_lock_of_another_process_is_unavailable_after_the_timeout",
                a_lock_of_another_process_is_unavailable_after_the_timeout,
            ),
            test("a_write_waits_for_the_lock_of_another_process", a_write_waits_for_the_lock_of_another_process),
        ],
    );
}

fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

async fn run_child(name: &str) {
    let path = support::path();
    if name == "lock" {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        println!("ready");
        wait_for_parent();
        return;
    }
    let store = SqliteStore::open(&path).await.unwrap();
    match name {
        "open" => {
            let _ = store.set(&key(std::process::id()), "here".into(), &SetOptions::default()).await.unwrap();
        }
        "write" => write(&store).await,
        "flood" => {
            for round in 0..15 {
                let keys: Vec<_> =
                    (0..1_000).map(|number| kv_core::SetItem::new(key(round * 1_000 + number), "")).collect();
                assert!(store.set_many(&keys).await.iter().all(Result::is_ok));
            }
        }
        "watch" => {
            let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
            println!("ready");
            while let Some(event) = stream.next().await {
                if let WatchEvent::Set { key, .. } = event.unwrap() {
                    println!("{key}");
                }
            }
        }
        "increment" => {
            println!("ready");
            wait_for_parent();
            for _ in 0..250 {
                store.increment(&key("count"), 1, &IncrementOptions::default()).await.unwrap();
            }
        }
        "busy" => {
            println!("ready");
            wait_for_parent();
            let (started, mut writes, mut longest) = (SystemClock.now(), 0, Duration::ZERO);
            let elapsed = |since| SystemClock.now().duration_since(since).unwrap();
            while elapsed(started) < Duration::from_secs(3) {
                let begun = SystemClock.now();
                let _ = store.set(&key(std::process::id()), "v".into(), &SetOptions::default()).await.unwrap();
                longest = longest.max(elapsed(begun));
                writes += 1;
            }
            println!("{writes} {}", longest.as_millis());
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
        _ => panic!("an unknown child"),
    }
}

/// Runs every kind of write, and then a set of the key `end`.
async fn write(store: &SqliteStore) {
    let plain = SetOptions::default();
    for number in 0..100 {
        let _ = store.set(&key(number), number.to_string().into(), &plain).await.unwrap();
    }
    let _ = store.delete(&key(1), &DeleteOptions::default()).await.unwrap();
    store.touch(&key(2), NewExpiry::After(Duration::from_secs(1_000))).await.unwrap();
    store.increment(&key("count"), 5, &IncrementOptions::default()).await.unwrap();
    let transaction = Transaction::new().set(key("a"), "1", Expiry::Never).delete(key(3));
    assert!(store.commit(&transaction).await.unwrap().is_committed());
    let _ = store
        .set(&key("short"), "x".into(), &plain.clone().with_expiry(Expiry::After(Duration::from_millis(100))))
        .await
        .unwrap();
    let _ = store.set(&key("nested"), "x".into(), &plain).await.unwrap();
    store.clear(&key("nested").into()).await.unwrap();
    let _ = store.set(&key("end"), "x".into(), &plain).await.unwrap();
}

fn wait_for_parent() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts children, lets them continue at the same time when all are ready, and returns the output of each child.
fn run_together(name: &str, count: usize, path: &std::path::Path) -> Vec<String> {
    let mut children: Vec<_> = (0..count)
        .map(|_| {
            let mut running = KillOnDrop(child(name, path).spawn().unwrap());
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

fn sixteen_processes_open_an_empty_file_at_once() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("store.sqlite");
        let children: Vec<_> =
            (0..16).map(|_| KillOnDrop(child("open", &path).stderr(Stdio::inherit()).spawn().unwrap())).collect();
        let ids: Vec<_> = children.iter().map(|running| running.0.id()).collect();
        for mut running in children {
            assert!(running.0.wait().unwrap().success());
        }
        block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            for id in ids {
                assert!(store.contains(&key(id)).await.unwrap());
            }
        });
    }
}

/// Collects the last event of each key until an event of the key `end`. The value is true for a set and false for a
/// removal.
async fn events_until(stream: &mut WatchStream, end: &Key) -> HashMap<Key, bool> {
    let mut events = HashMap::new();
    loop {
        match stream.next().await.unwrap().unwrap() {
            WatchEvent::Set { key, .. } if key == *end => return events,
            WatchEvent::Set { key, .. } => drop(events.insert(key, true)),
            WatchEvent::Removed { key } => drop(events.insert(key, false)),
            other => panic!("{other:?}"),
        }
    }
}

fn a_watcher_gets_the_changes_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let mut running = KillOnDrop(child("write", &path).spawn().unwrap());
        let receiving = async {
            let mut events = events_until(&mut stream, &key("end")).await;
            // The entry `short` expires, and the sweeper notifies the watcher of its removal.
            while events.get(&key("short")) != Some(&false) {
                match stream.next().await.unwrap().unwrap() {
                    WatchEvent::Removed { key } => drop(events.insert(key, false)),
                    WatchEvent::Set { key, .. } => drop(events.insert(key, true)),
                    other => panic!("{other:?}"),
                }
            }
            events
        };
        let events = tokio::time::timeout(Duration::from_secs(20), receiving).await.unwrap();
        assert!(running.0.wait().unwrap().success());
        for number in 0..100 {
            assert_eq!(events.get(&key(number)), Some(&![1, 3].contains(&number)), "{number}");
        }
        assert_eq!(events.get(&key("count")), Some(&true));
        assert_eq!(events.get(&key("a")), Some(&true));
        assert_eq!(events.get(&key("nested")), Some(&false));
    });
}

fn the_lease_of_a_killed_watcher_expires() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut running = KillOnDrop(child("watch", &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        for number in 0..10 {
            let _ = store.set(&key(number), "x".into(), &SetOptions::default()).await.unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), number.to_string());
        }
        drop(running);
        let logged = || count(&path, "changes");
        let before = logged();
        let _ = store.set(&key("logged"), "x".into(), &SetOptions::default()).await.unwrap();
        assert_eq!(logged(), before + 1);
        // Lets the lease expire. The next write deletes the lease and does not log its change.
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute(r#"UPDATE "kv watchers" SET expires = 1"#, []).unwrap();
        let _ = store.set(&key("not logged"), "x".into(), &SetOptions::default()).await.unwrap();
        assert_eq!((logged(), count(&path, "watchers")), (0, 0));
    });
}

fn count(path: &std::path::Path, suffix: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row(&format!(r#"SELECT count(*) FROM "kv {suffix}""#), [], |row| row.get(0)).unwrap()
}

fn a_watcher_that_lags_behind_another_process_gets_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let mut running = KillOnDrop(child("flood", &path).spawn().unwrap());
        assert!(running.0.wait().unwrap().success());
        // The 15,000 changed keys are more than the inbox or the change log can hold.
        let mut has_gap = false;
        while !has_gap {
            let event = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap();
            has_gap = matches!(event.unwrap().unwrap(), WatchEvent::Gap { .. });
        }
        assert!(count(&path, "changes") <= 10_000);
        let _ = store.set(&key("end"), "x".into(), &SetOptions::default()).await.unwrap();
        let receiving = async {
            loop {
                match stream.next().await.unwrap().unwrap() {
                    WatchEvent::Set { key: changed, .. } if changed == key("end") => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), receiving).await.unwrap();
    });
}

fn increments_of_four_processes_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    run_together("increment", 4, &path);
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.get(&key("count")).await.unwrap().unwrap().value, "1000");
    });
}

/// SQLite's lock between processes is not fair. This tests that each process still gets the lock often enough.
fn busy_processes_do_not_starve_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = run_together("busy", 4, &folder.path().join("store.sqlite"));
    eprintln!("number of writes and longest write in milliseconds: {outputs:?}");
    for line in outputs {
        let (writes, longest) = line.trim().split_once(' ').unwrap();
        assert!(writes.parse::<u32>().unwrap() > 0 && longest.parse::<u32>().unwrap() < 5_000, "{line}");
    }
}

fn one_of_four_processes_creates_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = run_together("create", 4, &folder.path().join("store.sqlite"));
    let mut created: Vec<u32> =
        outputs.iter().flat_map(|lines| lines.lines().map(|line| line.parse().unwrap())).collect();
    created.sort_unstable();
    assert_eq!(created, (0..100).collect::<Vec<_>>());
}

fn a_lock_of_another_process_is_unavailable_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::builder().path(&path).busy_timeout(Duration::from_millis(200)).open().await.unwrap();
        let _ = store.set(&key("k"), "before".into(), &SetOptions::default()).await.unwrap();
        let mut running = KillOnDrop(child("lock", &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        // Opening an existing table and reading need no lock. Therefore a handle whose timeouts never end can do both
        // while the other process holds the lock.
        let unlimited = SqliteStore::builder().path(&path).busy_timeout(Duration::MAX);
        let unlimited = unlimited.operation_timeout(Duration::MAX).open().await.unwrap();
        assert_eq!(unlimited.get(&key("k")).await.unwrap().unwrap().value, "before");
        let started = SystemClock.now();
        let error = store.set(&key("k"), "after".into(), &SetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(SystemClock.now().duration_since(started).unwrap() < Duration::from_secs(3));
        assert_eq!(store.get(&key("k")).await.unwrap().unwrap().value, "before");
        drop(running);
        let _ = store.set(&key("k"), "after".into(), &SetOptions::default()).await.unwrap();
        assert_eq!(store.get(&key("k")).await.unwrap().unwrap().value, "after");
    });
}

fn a_write_waits_for_the_lock_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut running = KillOnDrop(child("lock", &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let writing = tokio::spawn({
            let store = store.clone();
            async move { store.set(&key("k"), "v".into(), &SetOptions::default()).await }
        });
        SystemClock.sleep(Duration::from_millis(300)).await;
        assert!(!writing.is_finished());
        running.0.stdin.take().unwrap().write_all(b".").unwrap();
        assert!(writing.await.unwrap().unwrap().is_stored());
    });
}
