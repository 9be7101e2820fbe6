//! Several processes on one file.
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
use support::{Killed, block_on, child, test};

fn main() {
    support::main(
        |name| block_on(run_child(name)),
        vec![
            test("sixteen_processes_open_an_empty_file_at_once", sixteen_processes_open_an_empty_file_at_once),
            test("a_watcher_hears_what_another_process_writes", a_watcher_hears_what_another_process_writes),
            test("what_a_killed_watcher_left_hinders_nobody", what_a_killed_watcher_left_hinders_nobody),
            test("who_falls_behind_another_process_has_a_gap", who_falls_behind_another_process_has_a_gap),
            test("increments_of_four_processes_are_exact", increments_of_four_processes_are_exact),
            test("busy_processes_do_not_shut_each_other_out", busy_processes_do_not_shut_each_other_out),
            test("one_of_the_creators_in_four_processes_wins", one_of_the_creators_in_four_processes_wins),
            test("a_lock_that_another_process_holds_is_unavailable", a_lock_that_another_process_holds_is_unavailable),
            test("a_busy_writer_in_another_process_is_waited_for", a_busy_writer_in_another_process_is_waited_for),
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
        _ => panic!("no such child"),
    }
}

/// Every kind of write once.
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

/// Starts children that wait for each other, lets them go at once, and gives what they said.
fn at_once(name: &str, count: usize, path: &std::path::Path) -> Vec<String> {
    let mut children: Vec<_> = (0..count)
        .map(|_| {
            let mut running = Killed(child(name, path).spawn().unwrap());
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

fn sixteen_processes_open_an_empty_file_at_once() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("store.sqlite");
        let children: Vec<_> =
            (0..16).map(|_| Killed(child("open", &path).stderr(Stdio::inherit()).spawn().unwrap())).collect();
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

/// What a watcher has heard of each key last, until it hears of `end`.
async fn hear(stream: &mut WatchStream, end: &Key) -> HashMap<Key, bool> {
    let mut heard = HashMap::new();
    loop {
        match stream.next().await.unwrap().unwrap() {
            WatchEvent::Set { key, .. } if key == *end => return heard,
            WatchEvent::Set { key, .. } => drop(heard.insert(key, true)),
            WatchEvent::Removed { key } => drop(heard.insert(key, false)),
            other => panic!("{other:?}"),
        }
    }
}

fn a_watcher_hears_what_another_process_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let mut running = Killed(child("write", &path).spawn().unwrap());
        let hearing = async {
            let mut heard = hear(&mut stream, &key("end")).await;
            // The short-lived entry expires by itself, and a sweep tells.
            while heard.get(&key("short")) != Some(&false) {
                match stream.next().await.unwrap().unwrap() {
                    WatchEvent::Removed { key } => drop(heard.insert(key, false)),
                    WatchEvent::Set { key, .. } => drop(heard.insert(key, true)),
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
        assert_eq!(heard.get(&key("count")), Some(&true));
        assert_eq!(heard.get(&key("a")), Some(&true));
        assert_eq!(heard.get(&key("nested")), Some(&false));
    });
}

fn what_a_killed_watcher_left_hinders_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut running = Killed(child("watch", &path).spawn().unwrap());
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
        // As if its lease had run out: the next write removes it, and logs no more.
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute(r#"UPDATE "kv watchers" SET expires = 1"#, []).unwrap();
        let _ = store.set(&key("not logged"), "x".into(), &SetOptions::default()).await.unwrap();
        assert_eq!((logged(), count(&path, "watchers")), (0, 0));
    });
}

fn count(path: &std::path::Path, what: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row(&format!(r#"SELECT count(*) FROM "kv {what}""#), [], |row| row.get(0)).unwrap()
}

fn who_falls_behind_another_process_has_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let mut running = Killed(child("flood", &path).spawn().unwrap());
        assert!(running.0.wait().unwrap().success());
        // 15,000 keys are more than an inbox holds, and more than the table of changes keeps.
        let mut has_gap = false;
        while !has_gap {
            let event = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap();
            has_gap = matches!(event.unwrap().unwrap(), WatchEvent::Gap { .. });
        }
        assert!(count(&path, "changes") <= 10_000);
        let _ = store.set(&key("end"), "x".into(), &SetOptions::default()).await.unwrap();
        let hearing = async {
            loop {
                match stream.next().await.unwrap().unwrap() {
                    WatchEvent::Set { key: heard, .. } if heard == key("end") => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), hearing).await.unwrap();
    });
}

fn increments_of_four_processes_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    at_once("increment", 4, &path);
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.get(&key("count")).await.unwrap().unwrap().value, "1000");
    });
}

/// The lock between processes is not served in turn; that each gets it often enough is found out here.
fn busy_processes_do_not_shut_each_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let said = at_once("busy", 4, &folder.path().join("store.sqlite"));
    eprintln!("writes and the longest in milliseconds: {said:?}");
    for line in said {
        let (writes, longest) = line.trim().split_once(' ').unwrap();
        assert!(writes.parse::<u32>().unwrap() > 0 && longest.parse::<u32>().unwrap() < 5_000, "{line}");
    }
}

fn one_of_the_creators_in_four_processes_wins() {
    let folder = tempfile::tempdir().unwrap();
    let said = at_once("create", 4, &folder.path().join("store.sqlite"));
    let mut won: Vec<u32> = said.iter().flat_map(|lines| lines.lines().map(|line| line.parse().unwrap())).collect();
    won.sort_unstable();
    assert_eq!(won, (0..100).collect::<Vec<_>>());
}

fn a_lock_that_another_process_holds_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::builder().path(&path).busy_timeout(Duration::from_millis(200)).open().await.unwrap();
        let _ = store.set(&key("k"), "before".into(), &SetOptions::default()).await.unwrap();
        let mut running = Killed(child("lock", &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        // What is there already is opened and read meanwhile, also by a handle that would wait for ever.
        let patient = SqliteStore::builder().path(&path).busy_timeout(Duration::MAX);
        let patient = patient.operation_timeout(Duration::MAX).open().await.unwrap();
        assert_eq!(patient.get(&key("k")).await.unwrap().unwrap().value, "before");
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

fn a_busy_writer_in_another_process_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut running = Killed(child("lock", &path).spawn().unwrap());
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
