//! Several processes on one server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    DeleteOptions, Expiry, IncrementOptions, KeyPrefix, KvStore, MessageEvent, NewExpiry, SetOptions, Transaction,
    WatchEvent, WatchQuery, When,
};
use kv_redis::RedisStore;
use libtest_mimic::{Arguments, Failed, Trial};
use test_servers::redis::Redis;

mod support;
use support::{at, key, next_event, set, value};

/// The environment variable with the role of a child process.
const CHILD: &str = "KV_REDIS_TEST_CHILD";

/// The environment variable with the URL of the server for a child process.
const URL: &str = "KV_REDIS_TEST_URL";

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        return block_on(run_child(&name));
    }
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok::<(), Failed>(())
        })
    };
    let tests = vec![
        test("sixteen_processes_open_an_empty_database_at_once", sixteen_processes_open_an_empty_database_at_once),
        test("a_watcher_gets_the_writes_of_another_process", a_watcher_gets_the_writes_of_another_process),
        test("a_subscriber_gets_the_messages_of_another_process", a_subscriber_gets_the_messages_of_another_process),
        test("increments_of_four_processes_are_exact", increments_of_four_processes_are_exact),
        test("a_create_succeeds_in_one_of_four_processes", a_create_succeeds_in_one_of_four_processes),
        test("a_killed_process_does_not_block_other_processes", a_killed_process_does_not_block_other_processes),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A child process that is killed on drop.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a child process with a role.
fn child(name: &str, server: &Redis) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, name).env(URL, server.url()).stdin(Stdio::piped()).stdout(Stdio::piped());
    Killed(command.spawn().unwrap())
}

/// Runs the role of a child process, after the test has released it.
async fn run_child(name: &str) {
    let store = at(&std::env::var(URL).unwrap()).open().await.unwrap();
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    match name {
        "open" => {
            let _ = set(&store, std::process::id(), "here").await.unwrap();
        }
        "write" => write(&store).await,
        "publish" => {
            for number in 0..1_000 {
                store.publish(&key("c"), number.to_string().into()).await.unwrap();
            }
        }
        "increment" => {
            for _ in 0..250 {
                store.increment(&key("count"), 1, &IncrementOptions::default()).await.unwrap();
            }
        }
        "create" => {
            for number in 0..100 {
                let options = SetOptions::default().with_when(When::Absent);
                if store.set(&key(number), "mine".into(), &options).await.unwrap().is_stored() {
                    println!("{number}");
                }
            }
        }
        "endless" => {
            let _watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
            for number in 0.. {
                let _ = set(&store, format!("endless {number}"), "v").await.unwrap();
                println!("{number}");
            }
        }
        _ => panic!("unknown role of a child: {name}"),
    }
}

/// Makes writes of every kind.
async fn write(store: &RedisStore) {
    for number in 0..100 {
        let _ = set(store, number, "v").await.unwrap();
    }
    let _ = store.delete(&key(1), &DeleteOptions::default()).await.unwrap();
    store.touch(&key(2), NewExpiry::After(Duration::from_secs(1_000))).await.unwrap();
    store.increment(&key("count"), 5, &IncrementOptions::default()).await.unwrap();
    let transaction = Transaction::new().set(key("a"), "1", Expiry::Never).delete(key(3));
    assert!(store.commit(&transaction).await.unwrap().is_committed());
    let short = SetOptions::default().with_expiry(Expiry::After(Duration::from_millis(100)));
    let _ = store.set(&key("short"), "x".into(), &short).await.unwrap();
    let _ = set(store, "nested", "x").await.unwrap();
    store.clear(&key("nested").into()).await.unwrap();
    let _ = set(store, "end", "x").await.unwrap();
}

/// Waits until a child is ready, and releases it. Returns the output that follows.
fn release(running: &mut Killed) -> impl Read + use<> {
    let mut lines = BufReader::new(running.0.stdout.take().unwrap());
    let mut ready = String::new();
    lines.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    running.0.stdin.take().unwrap().write_all(b".").unwrap();
    lines
}

/// Starts `count` children, releases them when all are ready, and returns their outputs.
fn at_once(name: &str, count: usize, server: &Redis) -> Vec<String> {
    let mut children: Vec<_> = (0..count).map(|_| child(name, server)).collect();
    let outputs: Vec<_> = children.iter_mut().map(release).collect();
    let outputs = outputs.into_iter().map(|mut lines| {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        rest
    });
    let outputs = outputs.collect();
    for mut running in children {
        assert!(running.0.wait().unwrap().success());
    }
    outputs
}

fn sixteen_processes_open_an_empty_database_at_once() {
    let server = Redis::start().unwrap();
    at_once("open", 16, &server);
    block_on(async {
        let store = at(&server.url()).open().await.unwrap();
        assert_eq!(support::keys(&store).await.len(), 16);
    });
}

fn a_watcher_gets_the_writes_of_another_process() {
    let server = Redis::start().unwrap();
    block_on(async {
        let store = at(&server.url()).open().await.unwrap();
        let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let mut running = child("write", &server);
        let _output = release(&mut running);
        let (mut last, mut has_ended) = (HashMap::new(), false);
        // The entry `short` has a deadline, so its removal is an event without a delete.
        while !has_ended || last.get(&key("short")) != Some(&false) {
            match next_event(&mut stream).await {
                WatchEvent::Set { key: set, .. } => {
                    has_ended |= set == key("end");
                    last.insert(set, true);
                }
                WatchEvent::Removed { key } => drop(last.insert(key, false)),
                other => panic!("{other:?}"),
            }
        }
        assert!(running.0.wait().unwrap().success());
        for number in 0..100 {
            assert_eq!(last.get(&key(number)), Some(&![1, 3].contains(&number)), "{number}");
        }
        assert_eq!(last.get(&key("count")), Some(&true));
        assert_eq!(last.get(&key("a")), Some(&true));
        assert_eq!(last.get(&key("nested")), Some(&false));
    });
}

fn a_subscriber_gets_the_messages_of_another_process() {
    let server = Redis::start().unwrap();
    block_on(async {
        let store = at(&server.url()).open().await.unwrap();
        let mut stream = store.subscribe(&key("c").into()).await.unwrap();
        let mut running = child("publish", &server);
        let _output = release(&mut running);
        for number in 0..1_000 {
            let event = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
            let MessageEvent::Message(message) = event else { panic!("{event:?}") };
            assert_eq!((message.channel, message.payload), (key("c"), number.to_string().into()));
        }
    });
}

fn increments_of_four_processes_are_exact() {
    let server = Redis::start().unwrap();
    at_once("increment", 4, &server);
    block_on(async {
        let store = at(&server.url()).open().await.unwrap();
        assert_eq!(value(&store, "count").await.as_deref(), Some("1000"));
    });
}

fn a_create_succeeds_in_one_of_four_processes() {
    let server = Redis::start().unwrap();
    let outputs = at_once("create", 4, &server);
    let mut won: Vec<u32> = outputs.iter().flat_map(|lines| lines.lines().map(|line| line.parse().unwrap())).collect();
    won.sort_unstable();
    assert_eq!(won, (0..100).collect::<Vec<_>>());
}

fn a_killed_process_does_not_block_other_processes() {
    let server = Redis::start().unwrap();
    block_on(async {
        let store = at(&server.url()).open().await.unwrap();
        let mut running = child("endless", &server);
        let mut output = BufReader::new(release(&mut running)).lines();
        for _ in 0..200 {
            output.next().unwrap().unwrap();
        }
        running.0.kill().unwrap();
        // The child prints the number of each acknowledged set. The last line may be incomplete.
        let rest: Vec<String> = output.map_while(Result::ok).collect();
        let acknowledged = 200 + rest.iter().filter(|line| line.parse::<u32>().is_ok()).count();
        let found = support::keys(&store).await.len();
        assert!(found >= acknowledged.saturating_sub(1), "{acknowledged} {found}");
        let _ = set(&store, "after", "v").await.unwrap();
        // The server has dropped the child's connections and their tracking.
        support::eventually(|| async { !server.cli(&["CLIENT", "LIST"]).unwrap().contains("flags=t") }).await;
    });
}
