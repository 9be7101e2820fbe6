//! Failed system calls: `strace` makes one call of the store fail, or this call and all later calls. No acknowledged
//! write is lost.

use std::process::{Command, Stdio};
use std::time::Duration;

use kv_core::KvStore;
use kv_sled::{SledDurability, SledStore};

use crate::child::{Child, STEPS};
use crate::model::Model;
use crate::{assert_index_agrees_with_data, random, rounds};

#[tokio::test]
async fn no_acknowledged_write_is_lost_if_fsync_fails() {
    fail("fsync,fdatasync", "EIO", 40).await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_if_a_write_to_the_log_fails() {
    fail("pwrite64", "EIO", 50).await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_if_the_disk_is_full() {
    fail("pwrite64", "ENOSPC", 50).await;
}

/// Runs a random history in a child and makes one of its first `max_call` calls fail. In every second round, all later
/// calls fail, too.
async fn fail(calls: &str, error: &str, max_call: u64) {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: `strace` is not installed, or has no permission to trace");
        return;
    }
    let (seed, mut acknowledged, mut injected) = (random(), 0, 0);
    println!("CRASH_SEED={seed}");
    let rounds = rounds().div_ceil(5);
    for round in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let (path, trace) = (folder.path().join("store"), folder.path().join("trace"));
        let when = format!("{}{}", 1 + random() % max_call, if round % 2 == 0 { "" } else { "+" });
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-e", &format!("trace={calls}"), "-o"]).arg(&trace);
        command.args(["-e", &format!("inject={calls}:error={error}:when={when}")]);
        command.arg(std::env::current_exe().unwrap()).env(STEPS, "60").stderr(Stdio::null());
        let mut child = Child::spawn(command, &path, SledDurability::Power, seed, round);
        child.end_within(Duration::from_secs(60)).await;
        let (reports, killed) = child.kill();
        acknowledged += reports.iter().filter(|report| report.is_acknowledged).count();
        injected += usize::from(std::fs::read_to_string(&trace).unwrap().contains("(INJECTED)"));

        let context = format!("round {round}, {calls}:{error}:{when}");
        let store = SledStore::open(&path).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        Model::new(seed).check(&store, &reports, killed.at, Duration::ZERO, round).await;
        store.close().await.unwrap();
        assert_index_agrees_with_data(&path);
    }
    println!(
        "{calls} {error}: {injected} of {rounds} runs had a failed call, {acknowledged} acknowledged writes, none lost"
    );
    assert!(
        injected > 0 && acknowledged > 0,
        "{injected} runs had a failed call, {acknowledged} writes were acknowledged"
    );
}
