//! A second process finds what two handles in one do not: a store that is said to be shared, and is each process's own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::future::ready;
use std::sync::{LazyLock, Mutex};

use conformance_tests::{Fresh, Outcome, Report, Suite};
use kv_core::Reach;
use kv_memory::{CAPABILITIES, MemoryStore};
use libtest_mimic::{Arguments, Failed, Trial};

/// What this process has.
static STORES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

fn suite() -> Suite {
    let open = |_: String, fresh: Fresh| {
        let mut stores = STORES.lock().unwrap();
        ready(Ok(stores.entry(fresh.name().to_owned()).or_default().clone()))
    };
    let declared = CAPABILITIES.with_shared().with_watch(Reach::Shared).with_messages(Reach::Shared);
    Suite::on_backend("each its own", declared, || ((), String::new()), open)
}

fn main() {
    // In the second process it does not return.
    let suite = suite();
    let trials = vec![
        trial("two_handles_in_one_process_find_nothing", &suite, |suite| run(suite, "shared/"), |_, failed| !failed),
        trial(
            "a_second_process_finds_it",
            &suite,
            |suite| run(suite, "processes/"),
            |id, failed| failed != LONERS.contains(&id),
        ),
        trial(
            "turns_of_two_processes_find_it",
            &suite,
            |suite| run(&suite.clone().in_two_processes(), "basics/"),
            |id, failed| failed || id != "basics/set_then_get",
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

/// What has expired is absent in any store.
const LONERS: &[&str] = &["processes/expiry_is_the_same"];

/// Runs cases, and expects of each that it fails or not.
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
        let odd: Vec<_> = ran
            .clone()
            .filter(|case| !expected(case.id, matches!(case.outcome, Outcome::Failed { .. })))
            .map(ToString::to_string)
            .collect();
        if ran.count() > 10 && odd.is_empty() { Ok(()) } else { Err(Failed::from(format!("{odd:?} of {report}"))) }
    })
}

fn run(suite: &Suite, filter: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suite.run(filter))
}
