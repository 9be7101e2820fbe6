//! A second process catches a fault that two handles in one process cannot: a store that declares `shared`, but has
//! different entries in each process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::future::ready;
use std::sync::{LazyLock, Mutex};

use conformance_tests::{Fresh, Outcome, Report, Suite};
use kv_core::Reach;
use kv_memory::{CAPABILITIES, MemoryStore};
use libtest_mimic::{Arguments, Failed, Trial};

/// The stores of this process.
static STORES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

fn suite() -> Suite {
    let open = |_: String, fresh: Fresh| {
        let mut stores = STORES.lock().unwrap();
        ready(Ok(stores.entry(fresh.name().to_owned()).or_default().clone()))
    };
    let declared = CAPABILITIES.with_shared().with_watch(Reach::Shared).with_messages(Reach::Shared);
    Suite::on_backend("not shared", declared, || ((), String::new()), open)
}

fn main() {
    // Does not return in the second process.
    let suite = suite();
    let trials = vec![
        trial(
            "two_handles_in_one_process_do_not_catch_the_fault",
            &suite,
            |suite| run(suite, "shared/"),
            |_, failed| !failed,
        ),
        trial(
            "a_second_process_catches_the_fault",
            &suite,
            |suite| run(suite, "processes/"),
            |id, failed| failed != PASSING.contains(&id),
        ),
        trial(
            "alternating_processes_catch_the_fault",
            &suite,
            |suite| run(&suite.clone().in_two_processes(), "basics/"),
            |id, failed| failed || id != "basics/set_then_get",
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

/// Cases that pass although the processes have different entries, because an expired entry is absent in both.
const PASSING: &[&str] = &["processes/expiry_is_the_same"];

/// A trial that runs cases. Fails unless `expected` returns true for each case, given the id of the case, and true if
/// the case failed.
fn trial(
    name: &str,
    suite: &Suite,
    run: impl FnOnce(&Suite) -> Report + Send + 'static,
    expected: fn(&str, bool) -> bool,
) -> Trial {
    let suite = suite.clone();
    Trial::test(name, move || {
        let report = run(&suite);
        let ran = report.cases.iter().filter(|case| !matches!(case.outcome, Outcome::Skipped { .. }));
        let unexpected: Vec<_> = ran
            .clone()
            .filter(|case| !expected(case.id, matches!(case.outcome, Outcome::Failed { .. })))
            .map(ToString::to_string)
            .collect();
        if ran.count() > 10 && unexpected.is_empty() {
            Ok(())
        } else {
            Err(Failed::from(format!("unexpected results: {unexpected:?} in {report}")))
        }
    })
}

fn run(suite: &Suite, filter: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suite.run(filter))
}
