//! Long commands react to an interrupt, even on a memory store.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::fs::File;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read};
#[cfg(unix)]
use std::process::{Command, Stdio};

use anykv::{Key, KeyPrefix, ListQuery, SetOptions, WatchQuery};
use futures_util::{FutureExt, StreamExt};
use kv_cli::replay::{Prefill, Replay, Settings, Workload};
use kv_cli::{Progress, transfer};

/// Interrupts the program after its first message. Returns its exit code and its later messages. The exit code is
/// `None` if the signal killed the program.
#[cfg(unix)]
fn interrupt(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("kv"))
        .env("KV_STORE", "memory:")
        .args(arguments)
        .arg(support::workload())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut message = String::new();
    stderr.read_line(&mut message).unwrap();
    assert!(message.starts_with("kv: replaying in the namespace `"), "{message}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    message.clear();
    stderr.read_to_string(&mut message).unwrap();
    (child.wait().unwrap().code(), message)
}

#[cfg(unix)]
#[test]
fn an_interrupted_replay_cleans_up_and_has_its_own_exit_code() {
    assert_eq!(
        interrupt(&["replay", "--rounds", "1000000", "--clients", "4"]),
        (Some(130), "kv: interrupted\n".into())
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_prefill_cleans_up_and_has_its_own_exit_code() {
    assert_eq!(interrupt(&["replay", "--prefill"]), (Some(130), "kv: interrupted\n".into()));
}

#[cfg(unix)]
#[test]
fn a_server_that_gets_a_signal_closes_its_store_and_removes_its_socket_file() {
    use std::os::unix::net::UnixStream;

    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("kv.db"), folder.path().join("kv.sock"));
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("kv"))
            .env("KV_STORE", format!("sqlite:{}", file.display()))
            .args(["serve", "--json-lines", "--listen", &format!("unix:{}", socket.display())])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut String::new()).unwrap();
        let url = format!("lines:unix:{}", socket.display());
        support::kv().args(["--store", &url, "set", "a", "1"]).assert().success();
        let idle = UnixStream::connect(&socket).unwrap();
        let log = folder.path().join("kv.db-wal");
        assert!(socket.exists() && log.exists());
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let mut messages = String::new();
        stderr.read_to_string(&mut messages).unwrap();
        assert_eq!((child.wait().unwrap().code(), messages.as_str()), (Some(0), ""), "{signal}");
        assert!(!socket.exists(), "{signal}");
        // Closing a store removes its write-ahead log.
        assert!(!log.exists(), "{signal}");
        drop(idle);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_after_an_interrupted_replay_leaves_no_entries() {
    let kv = anykv::open("memory:").await.unwrap();
    let workload = Workload::read(File::open(support::workload()).unwrap(), None).unwrap();
    let settings = Settings { clients: 8, rounds: 1_000, ..Settings::default() };
    let replay = Replay::new(&kv, workload, settings).unwrap();
    let changed = kv.store().watch(&WatchQuery::prefix(KeyPrefix::ALL).with_keys_only()).await.unwrap();
    let mut changed = changed.skip(100);
    let progress = Progress::hidden();
    tokio::select! {
        _ = changed.next() => {}
        report = replay.run(&progress) => panic!("the replay completed: {report:?}"),
    }
    replay.clear().await.unwrap();
    // No client writes any more: the list stays empty while other tasks run.
    for _ in 0..200 {
        assert!(kv.store().list(&ListQuery::default()).await.unwrap().items.is_empty());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn long_work_on_a_store_in_memory_yields_to_other_tasks() {
    let prefill = Some(Prefill::production(1).scaled(0.05));
    let settings = Settings { prefill, ..Settings::default() };
    let workload = Workload::read(&b""[..], None).unwrap();
    let replay = Replay::new(&anykv::open("memory:").await.unwrap(), workload, settings).unwrap();
    let progress = Progress::hidden();
    assert!(replay.run(&progress).now_or_never().is_none());
    assert!(progress.position() <= 1_000, "{}", progress.position());

    let (from, to) = (anykv::open("memory:").await.unwrap(), anykv::open("memory:").await.unwrap());
    for number in 0..5_000 {
        let key = Key::new([Key::ordered(number)]).unwrap();
        let _ = from.store().set(&key, "v".into(), &SetOptions::default()).await.unwrap();
    }
    let progress = Progress::hidden();
    let mut on_batch = |_: &Key| {};
    let copying = transfer::copy(from.store(), to.store(), ListQuery::default(), &mut on_batch, &progress);
    assert!(copying.now_or_never().is_none());
    assert!(progress.position() <= 1_000, "{}", progress.position());
}
