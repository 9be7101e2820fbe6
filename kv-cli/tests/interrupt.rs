//! An interrupt is heard, also over a store that is always ready.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

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

/// Interrupts the program when it says that it is at work, and gives its exit code and what it said afterwards. A program
/// that the signal killed has no exit code.
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
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.starts_with("kv: replaying in the namespace `"), "{said}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    said.clear();
    stderr.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
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
fn an_interrupted_prefill_does_too() {
    assert_eq!(interrupt(&["replay", "--prefill"]), (Some(130), "kv: interrupted\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_interrupted_leaves_nothing_behind() {
    let kv = anykv::open("memory:").await.unwrap();
    let workload = Workload::read(File::open(support::workload()).unwrap(), None).unwrap();
    let settings = Settings { clients: 8, rounds: 1_000, ..Settings::default() };
    let replay = Replay::new(&kv, workload, settings).unwrap();
    let changed = kv.store().watch(&WatchQuery::prefix(KeyPrefix::ALL).with_keys_only()).await.unwrap();
    let mut changed = changed.skip(100);
    let progress = Progress::hidden();
    tokio::select! {
        _ = changed.next() => {}
        report = replay.run(&progress) => panic!("it ended by itself: {report:?}"),
    }
    replay.clear().await.unwrap();
    // Nobody writes any more: the list stays empty while other tasks have their turn.
    for _ in 0..200 {
        assert!(kv.store().list(&ListQuery::default()).await.unwrap().items.is_empty());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn long_work_over_a_store_that_never_waits_lets_others_have_their_turn() {
    let prefill = Some(Prefill::production(1).scaled(0.05));
    let settings = Settings { prefill, ..Settings::default() };
    let workload = Workload::read(&b""[..], None).unwrap();
    let replay = Replay::new(&anykv::open("memory:").await.unwrap(), workload, settings).unwrap();
    let progress = Progress::hidden();
    assert!(replay.run(&progress).now_or_never().is_none());
    assert!((1..=1_000).contains(&progress.position()), "{}", progress.position());

    let (from, to) = (anykv::open("memory:").await.unwrap(), anykv::open("memory:").await.unwrap());
    for number in 0..5_000 {
        let key = Key::new([Key::ordered(number)]).unwrap();
        let _ = from.store().set(&key, "v".into(), &SetOptions::default()).await.unwrap();
    }
    let progress = Progress::hidden();
    let mut reached = |_: &Key| {};
    let copying = transfer::copy(from.store(), to.store(), ListQuery::default(), &mut reached, &progress);
    assert!(copying.now_or_never().is_none());
    assert!((1..=1_000).contains(&progress.position()), "{}", progress.position());
}
