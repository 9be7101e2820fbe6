//! Failing system calls: `strace` lets the n-th write, sync or truncation of a child fail, or all such calls from the
//! n-th on.
//!
//! Afterwards the store must have every write that was acknowledged, and no write that was reported as not applied.
//! After a single failure the same handle must continue to work. Watchers are told of every write that may have been
//! applied. `CRASH_FAULTS` sets the number of runs with a single
//! failure, and of runs in which all later calls fail, by default 4 each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Read;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{GapReason, Key, KeyPrefix, KvStore, Report, SetOptions, WatchEvent, WatchQuery};
use kv_sqlite::{SqliteStore, SyncMode};

mod support;
use support::history::{Expected, Run, TASKS, run_child};
use support::trace::traced;
use support::{KillOnDrop, Random, block_on, test};

fn main() {
    support::main(
        |name| match name {
            WATCHING => block_on(run_watching_child()),
            name => block_on(run_child(Run::from_name(name))),
        },
        vec![
            test("a_failing_sync_gives_correct_outcomes", || faults("fsync,fdatasync", "EIO", 60)),
            test("a_write_that_was_reported_as_not_applied_does_not_reappear", || {
                // With this seed no commit follows the failed commit before the store is opened again.
                let cases = (20..36).flat_map(|first| [(first, ""), (first, "+")]);
                run_all(
                    "fsync,fdatasync",
                    "EIO",
                    cases.map(|(first, onwards)| (first, onwards, 5_021_741_940_341_045)),
                );
            }),
            test("a_failing_write_gives_correct_outcomes", || faults("pwrite64", "EIO", 250)),
            test("a_write_to_a_full_disk_gives_correct_outcomes", || faults("pwrite64", "ENOSPC", 250)),
            test("a_failing_truncation_gives_correct_outcomes", || faults("ftruncate", "EIO", 3)),
            test(
                "a_write_that_may_have_been_applied_is_reported_to_watchers",
                a_write_that_may_have_been_applied_is_reported_to_watchers,
            ),
        ],
    );
}

fn faults(calls: &str, error: &str, max_first: u64) {
    let mut random = Random::new();
    let count: u64 = std::env::var("CRASH_FAULTS").map_or(4, |count| count.parse().unwrap());
    let cases = (0..count * 2).map(|number| {
        let onwards = if number % 2 == 0 { "" } else { "+" };
        (1 + random.below(max_first), onwards, random.below(u64::MAX))
    });
    run_all(calls, error, cases);
}

/// Runs one child per case. A case has three parts: the number of the first failing call, a text, and the seed of the
/// history. The text is `+` if all later calls fail too. Otherwise it is empty.
fn run_all<'a>(calls: &str, error: &str, cases: impl Iterator<Item = (u64, &'a str, u64)>) {
    let (mut runs, mut failed, mut acknowledged) = (0, 0, 0);
    for (first, onwards, seed) in cases {
        runs += 1;
        let fault = format!("{calls}:error={error}:when={first}{onwards}");
        let run = Run { seed, round: 0, steps: 40, sync: SyncMode::EveryCommit };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let (trace, inject) = (format!("trace={calls}"), format!("inject={fault}"));
        let arguments = ["--seccomp-bpf", "-e", &trace, "-e", &inject];
        let Some(mut command) = traced(&run.to_name(), &path, &arguments, &folder.path().join("trace")) else {
            return;
        };
        let mut child = KillOnDrop(command.spawn().unwrap());
        let mut output = String::new();
        child.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        assert!(child.0.wait().unwrap().success(), "{fault}, {run:?}");

        let mut expected = Expected::new();
        output.lines().for_each(|line| expected.apply_line(run, line));
        let is_injected = std::fs::read_to_string(folder.path().join("trace")).unwrap().contains("(INJECTED)");
        if is_injected && onwards.is_empty() && !output.contains("unopened") {
            let finished = expected.acknowledged + expected.errors;
            assert_eq!(
                finished,
                TASKS * usize::try_from(run.steps).unwrap(),
                "{fault}, {run:?}: not every step has a result"
            );
        }
        failed += expected.errors + usize::from(output.contains("unopened"));
        acknowledged += expected.acknowledged;
        block_on(async {
            let store = run.open(&path).await.unwrap_or_else(|error| panic!("{fault}, {run:?}: {error:?}"));
            expected.check(run, &store, false).await;
            store.close().await.unwrap();
        });
    }
    eprintln!("{calls} {error}: {runs} runs, {failed} calls failed, {acknowledged} acknowledged, all outcomes correct");
    // No call of the store fails because of a failed truncation.
    assert!(acknowledged > 0 && (failed > 0 || calls == "ftruncate"), "{failed} failed");
}

/// The name of the child that watches its own writes.
const WATCHING: &str = "watching";

/// Writes some keys one by one. Prints the outcome of each write, and for a write that was applied or may have been
/// applied also the events until it was reported.
async fn run_watching_child() {
    let Ok(store) = SqliteStore::open(support::path()).await else { return println!("unopened") };
    let query = WatchQuery::prefix(KeyPrefix::ALL).with_report(Report::Changes);
    let Ok(mut stream) = store.watch(&query).await else { return println!("unopened") };
    for number in 0..4 {
        let key = Key::new([number.to_string()]).unwrap();
        let outcome = match store.set(&key, "v".into(), &SetOptions::default()).await {
            Ok(_) => "acknowledged",
            Err(error) if error.maybe_applied() => "indeterminate",
            Err(_) => {
                println!("refused");
                continue;
            }
        };
        let mut events = String::new();
        let reported = async {
            loop {
                match stream.next().await.unwrap().unwrap() {
                    WatchEvent::Changed { key: changed } if changed == key => return events.push_str(" reported"),
                    WatchEvent::Suspended { reason: GapReason::NotReported } => events.push_str(" suspended"),
                    WatchEvent::Gap { .. } => events.push_str(" gap"),
                    _ => events.push_str(" other"),
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), reported).await;
        println!("{outcome}{events}");
    }
}

fn a_write_that_may_have_been_applied_is_reported_to_watchers() {
    let (mut once, mut onwards) = (String::new(), String::new());
    for first in 1..16 {
        for (suffix, outputs) in [("", &mut once), ("+", &mut onwards)] {
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("inject=fsync,fdatasync:error=EIO:when={first}{suffix}");
            let arguments = ["--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-e", &inject];
            let path = folder.path().join("store.sqlite");
            let Some(mut command) = traced(WATCHING, &path, &arguments, &folder.path().join("trace")) else { return };
            outputs.push_str(&String::from_utf8(command.output().unwrap().stdout).unwrap());
        }
    }
    for line in once.lines().chain(onwards.lines()).filter(|line| !matches!(*line, "unopened" | "refused")) {
        assert!(line.ends_with("reported"), "a write was not reported: {line}");
    }
    // After one failed sync the writer overwrites the commit. If no sync works, the commit stays in doubt.
    assert!(once.contains("indeterminate reported"), "{once}");
    assert!(onwards.contains("indeterminate suspended reported"), "{onwards}");
}
