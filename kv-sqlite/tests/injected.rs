//! Calls to the system that fail: the n-th write, sync or cut of a child, or all from the n-th on, by `strace`.
//!
//! What the child is told to have happened must be there afterwards, what it is told not to have happened must not, and after
//! a single failure the same handle goes on. `CRASH_FAULTS` says how many of each kind, 4 unless said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Read;

use kv_core::KvStore;
use kv_sqlite::SyncMode;

mod support;
use support::life::{Account, Life, TASKS, live};
use support::trace::traced;
use support::{Killed, Random, block_on, test};

fn main() {
    support::main(
        |name| block_on(live(Life::from_name(name))),
        vec![
            test("a_sync_that_fails", || faults("fsync,fdatasync", "EIO", 60)),
            test("what_was_seen_not_to_have_happened_stays_so", || {
                // A commit whose sync fails is followed by no other before the store is opened again.
                let cases = (20..36).flat_map(|first| [(first, ""), (first, "+")]);
                run_all(
                    "fsync,fdatasync",
                    "EIO",
                    cases.map(|(first, onwards)| (first, onwards, 5_021_741_940_341_045)),
                );
            }),
            test("a_write_that_fails", || faults("pwrite64", "EIO", 250)),
            test("a_write_for_which_there_is_no_room", || faults("pwrite64", "ENOSPC", 250)),
            test("a_cut_that_fails", || faults("ftruncate", "EIO", 3)),
        ],
    );
}

fn faults(calls: &str, error: &str, most: u64) {
    let mut random = Random::new();
    let count: u64 = std::env::var("CRASH_FAULTS").map_or(4, |count| count.parse().unwrap());
    let cases = (0..count * 2).map(|number| {
        let onwards = if number % 2 == 0 { "" } else { "+" };
        (1 + random.below(most), onwards, random.below(u64::MAX))
    });
    run_all(calls, error, cases);
}

/// Runs children whose n-th call fails, or all from it on, each with its seed.
fn run_all<'a>(calls: &str, error: &str, cases: impl Iterator<Item = (u64, &'a str, u64)>) {
    let (mut runs, mut failed, mut acknowledged) = (0, 0, 0);
    for (first, onwards, seed) in cases {
        runs += 1;
        let what = format!("{calls}:error={error}:when={first}{onwards}");
        let life = Life { seed, round: 0, steps: 40, sync: SyncMode::EveryCommit };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let (trace, inject) = (format!("trace={calls}"), format!("inject={what}"));
        let arguments = ["--seccomp-bpf", "-e", &trace, "-e", &inject];
        let Some(mut command) = traced(&life.to_name(), &path, &arguments, &folder.path().join("trace")) else {
            return;
        };
        let mut running = Killed(command.spawn().unwrap());
        let mut said = String::new();
        running.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(running.0.wait().unwrap().success(), "{what}, {life:?}");

        let mut account = Account::new();
        said.lines().for_each(|line| account.hear(life, line));
        let is_injected = std::fs::read_to_string(folder.path().join("trace")).unwrap().contains("(INJECTED)");
        if is_injected && onwards.is_empty() && !said.contains("closed") {
            let answered = account.acknowledged + account.errors;
            assert_eq!(answered, TASKS * usize::try_from(life.steps).unwrap(), "{what}, {life:?}: not all answered");
        }
        failed += account.errors + usize::from(said.contains("closed"));
        acknowledged += account.acknowledged;
        block_on(async {
            let store = life.open(&path).await.unwrap_or_else(|error| panic!("{what}, {life:?}: {error:?}"));
            account.check(life, &store, false).await;
            store.close().await.unwrap();
        });
    }
    eprintln!("{calls} {error}: {runs} runs, {failed} calls failed, {acknowledged} acknowledged, as told each");
    // A cut that fails is nothing that a caller needs to hear of.
    assert!(acknowledged > 0 && (failed > 0 || calls == "ftruncate"), "{failed} failed");
}
