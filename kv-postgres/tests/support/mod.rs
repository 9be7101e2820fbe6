//! Helpers for the test programs.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of the helpers")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use kv_core::{
    Clock, GapReason, Key, KvStore, MessageEvent, MessageStream, Result, SetOptions, SystemClock, WatchEvent,
    WatchStream,
};
use kv_postgres::deadpool_postgres::tokio_postgres::{Config, NoTls};
use kv_postgres::deadpool_postgres::{Manager, Pool};
use kv_postgres::{PostgresBuilder, PostgresStore};
use libtest_mimic::{Arguments, Failed, Trial};
use test_servers::postgres::Postgres;

/// The environment variable with the name of the child, if this process is a child.
const CHILD: &str = "KV_POSTGRES_TEST_CHILD";

/// Terminates the connections of all stores.
pub const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'anykv'";

/// Runs the child if this process is a child. Otherwise runs the tests.
pub fn main(child: impl FnOnce(&str), tests: Vec<Trial>) {
    if let Ok(name) = std::env::var(CHILD) {
        return child(&name);
    }
    let mut arguments = Arguments::from_args();
    // Each test starts its own server.
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, tests).exit()
}

/// Returns a test that fails if `run` panics.
pub fn test<F: Future<Output = ()> + 'static>(name: &str, run: fn() -> F) -> Trial {
    Trial::test(name, move || {
        block_on(run());
        Ok::<(), Failed>(())
    })
}

/// Returns a command that runs this program as the child `name`.
pub fn child(name: &str, url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, name).env("KV_POSTGRES_TEST_URL", url).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Returns the URL from the parent process.
pub fn url() -> String {
    std::env::var("KV_POSTGRES_TEST_URL").unwrap()
}

/// A child process that is killed on drop.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

pub fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

/// Returns a builder with short timeouts, so that tests of faults are fast.
pub fn impatient(server: &Postgres) -> PostgresBuilder {
    let second = Duration::from_secs(1);
    let builder = PostgresStore::builder().url(&server.url()).unwrap();
    // Password authentication is slow in a build without optimization.
    builder.connect_timeout(3 * second).operation_timeout(second).lock_timeout(Duration::from_millis(300))
}

pub async fn set(store: &PostgresStore, segment: impl ToString, value: &str) -> Result<()> {
    store.set(&key(segment), value.to_owned().into(), &SetOptions::default()).await.map(|_| ())
}

pub async fn get(store: &PostgresStore, segment: impl ToString) -> Result<Option<String>> {
    let entry = store.get(&key(segment)).await?;
    Ok(entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap()))
}

pub fn now() -> SystemTime {
    SystemClock.now()
}

pub async fn pause(duration: Duration) {
    SystemClock.sleep(duration).await;
}

/// Retries a write until it succeeds, and returns the elapsed time. Panics if the elapsed time exceeds `limit`.
pub async fn recovers(store: &PostgresStore, limit: Duration) -> Duration {
    let started = now();
    loop {
        let took = now().duration_since(started).unwrap();
        match set(store, "recovers", "v").await {
            Ok(()) => return took,
            Err(error) => assert!(took < limit, "after {took:?}: {error:?}"),
        }
        pause(Duration::from_millis(20)).await;
    }
}

/// Starts a process that holds the lock of a row until the returned value is dropped.
pub async fn lock_row(server: &Postgres, row: &str) -> KillOnDrop {
    let mut command = Command::new("psql");
    command
        .arg(server.url())
        .arg("-c")
        .arg(format!("BEGIN; SELECT key FROM kv WHERE key = '{row}' FOR UPDATE; SELECT pg_sleep(30)"))
        .stdout(Stdio::null());
    let holder = KillOnDrop(command.spawn().unwrap());
    let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT key%' AND wait_event = 'PgSleep'";
    while server.psql("kv", held).unwrap().trim() != "1" {
        pause(Duration::from_millis(20)).await;
    }
    holder
}

/// Returns a pool as an application would build it.
pub fn pool(server: &Postgres, connections: usize) -> Pool {
    let config: Config = server.url().parse().unwrap();
    let manager = Manager::new(config, NoTls);
    Pool::builder(manager).max_size(connections).build().unwrap()
}

/// Waits for a gap of the watcher. Skips `Suspended`, which is advisory.
pub async fn watch_gap(watch: &mut WatchStream) -> GapReason {
    loop {
        match tokio::time::timeout(Duration::from_secs(40), watch.next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Suspended { .. } => {}
            WatchEvent::Gap { reason } => return reason,
            event => panic!("{event:?}"),
        }
    }
}

/// Waits for a gap of the subscriber. Skips `Suspended`, which is advisory.
pub async fn message_gap(messages: &mut MessageStream) -> GapReason {
    loop {
        match tokio::time::timeout(Duration::from_secs(40), messages.next()).await.unwrap().unwrap().unwrap() {
            MessageEvent::Suspended { .. } => {}
            MessageEvent::Gap { reason } => return reason,
            event => panic!("{event:?}"),
        }
    }
}
