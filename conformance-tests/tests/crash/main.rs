//! Stores in files pass or fail the cases with a child process: a good store passes all, and each broken store fails the
//! case that tests its defect.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod file_store;

use std::time::Duration;

use conformance_tests::{Fresh, Outcome, Report, Suite};
use kv_core::{Capabilities, Durability, Survives};
use kv_memory::CAPABILITIES;
use libtest_mimic::{Arguments, Failed, Trial};

use self::file_store::{Fault, FileStore};

const DECLARED: Capabilities = CAPABILITIES.with_durability(Durability::surviving(Survives::Process));

/// Each broken store, and the case that must fail on it.
const BROKEN: &[(&str, Fault, &str)] = &[
    ("acknowledges_before_it_writes", Fault::Buffers, "crash/acknowledged_writes_survive"),
    ("loses_increments_in_its_buffer", Fault::Buffers, "crash/counters_stay_exact"),
    ("accepts_half_a_record", Fault::AcceptsTornLines, "crash/large_values_survive_whole"),
    ("writes_mutations_one_by_one", Fault::SplitsTransactions, "crash/transactions_survive_whole"),
    ("stores_times_to_live", Fault::RestartsTtls, "crash/deadlines_survive"),
    ("numbers_versions_from_one", Fault::RestartsVersions, "crash/versions_never_repeat"),
    ("leaves_a_lock_behind", Fault::LeavesLock, "crash/opening_may_be_killed"),
    ("opens_a_store_twice", Fault::OpensTwice, OPENERS),
    ("truncates_before_it_locks", Fault::TruncatesBeforeItLocks, OPENERS),
];

const OPENERS: &str = "openers/another_process_shares_or_is_refused";

/// The maximum number of runs of a case on a broken store.
const RUNS: u64 = 10;

fn suite(name: &str, fault: Fault) -> Suite {
    let open = move |fresh: Fresh| async move { FileStore::open(&fresh.folder()?.join("store"), fault).await };
    Suite::new(name, DECLARED, open).with_reopen().with_crash().with_time_limit(Duration::from_secs(60))
}

fn main() {
    // In a child process, the suite that the child serves does not return.
    let good = suite("good", Fault::None);
    let mut trials = vec![Trial::test("a_good_store_survives_kills", move || {
        let mut cases = run(&good, "crash/").cases;
        cases.extend(run(&good, OPENERS).cases);
        let ran = cases.iter().all(|case| matches!(case.outcome, Outcome::Passed));
        if ran && cases.len() == 8 { Ok(()) } else { Err(Failed::from(format!("{cases:?}"))) }
    })];
    for (name, fault, case) in BROKEN {
        let broken = suite(name, *fault);
        trials.push(Trial::test(*name, move || {
            // A kill tears a write only if it comes in the middle of one.
            let is_caught = (0..RUNS).any(|seed| run(&broken.clone().with_seed(seed), case).failures().count() == 1);
            if is_caught { Ok(()) } else { Err(Failed::from(format!("{case} does not catch the broken store"))) }
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

fn run(suite: &Suite, filter: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suite.run(filter))
}
