//! Every broken store fails the cases in its `caught_by`, and every case catches a broken store.

mod support;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance_tests::faulty::Fault;
use conformance_tests::{Case, CaseReport, Outcome, Report, Suite};
use libtest_mimic::{Arguments, Failed, Trial};

/// A case that must pass on every broken store, unless `caught_by` lists it.
const BASIC: &str = "basics/set_then_get";

/// The time limit of a case on a broken store. A case on a store that never answers fails after this time.
const SHORT_LIMIT: Duration = Duration::from_secs(1);
/// The time limit of a case on a good store, and of slow cases.
const LONG_LIMIT: Duration = Duration::from_secs(60);

/// Cases that take longer than the short limit on a good store.
const SLOW: &[&str] = &["list/a_hundred_thousand", "list_cost/pages_read_their_entries_only"];

/// The beginning of the ids of broken stores whose good store calls sinks over a link.
const OVER_LINK: &str = "outage_sinks/";

const IN_CRASH: &str = "needs a store in files; `tests/crash` has a store that fails it";

/// Cases that no broken store of this crate fails, and the reasons.
const WITHOUT_BROKEN_STORE: &[(&str, &str)] = &[
    ("keys/every_way_to_the_same_key", "kv-core builds keys, not the store"),
    ("keys/no_segments_is_refused", "kv-core builds keys, not the store"),
    ("keys/too_long_is_refused", "kv-core builds keys, not the store"),
    ("values/the_buffer_is_the_callers", "`Bytes` cannot be written while it is shared"),
    ("crash/acknowledged_writes_survive", IN_CRASH),
    ("crash/large_values_survive_whole", IN_CRASH),
    ("crash/transactions_survive_whole", IN_CRASH),
    ("crash/counters_stay_exact", IN_CRASH),
    ("crash/deadlines_survive", IN_CRASH),
    ("crash/versions_never_repeat", IN_CRASH),
    ("crash/opening_may_be_killed", IN_CRASH),
    ("openers/another_process_shares_or_is_refused", IN_CRASH),
    ("restart/dropped_without_close", "needs a store that survives its process"),
    ("shared/a_dropped_handle_leaves_the_other", "needs a store that loses what a dropped handle wrote"),
    ("processes/a_dropped_handle_leaves_the_other", "needs a store that loses what a dropped handle wrote"),
    ("processes/changes_are_heard", "needs watch between processes; `tests/processes.rs` has a store that fails it"),
    (
        "processes/messages_are_heard",
        "needs messages between processes; `tests/processes.rs` has a store that fails it",
    ),
    (
        "sweep/two_hundred_thousand_unread",
        "takes seconds; the broken store `touch/sweep_counts_one_too_many` fails other cases",
    ),
    (
        "races/histories_with_expiry_are_linearizable",
        "takes seconds; the cases of histories without conditions catch broken stores",
    ),
];

/// The seed of all runs.
const SEED: u64 = 7;
/// The seeds with which a case runs again if it did not catch a broken store.
const MORE_SEEDS: std::ops::Range<u64> = SEED + 1..SEED + 6;

static CAUGHT: AtomicUsize = AtomicUsize::new(0);
static TRIED: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most trials wait for reports that never come, so more of them than cores run at once.
    arguments.test_threads.get_or_insert(6);
    let mut trials = vec![
        Trial::test("ids_of_broken_stores_are_unique", ids_are_unique),
        Trial::test("every_case_catches_a_broken_store", every_case_catches_a_broken_store),
    ];
    trials.extend(Fault::all().map(|fault| {
        Trial::test(fault.id, move || {
            TRIED.fetch_add(1, Ordering::Relaxed);
            is_caught(fault)?;
            CAUGHT.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("caught {} of {} broken stores", CAUGHT.load(Ordering::Relaxed), TRIED.load(Ordering::Relaxed));
    }
    conclusion.exit_code()
}

/// Fails unless each case in `caught_by` fails on the broken store with its clause and passes on the good store.
fn is_caught(fault: &'static Fault) -> Result<(), Failed> {
    let find_case = |id: &str| Case::all().find(|case| case.id == id).ok_or(format!("there is no case {id}"));
    let first = fault.caught_by.first().ok_or("`caught_by` has no case")?;
    let clause = find_case(first)?.clause;
    if clause != fault.clause {
        return Err(format!("the broken store violates {}, but {first} tests {clause}", fault.clause).into());
    }

    let over_link = fault.id.starts_with(OVER_LINK);
    let suite = |name: &str, fault: Option<&'static Fault>| {
        let wrap = move |good, clock| match fault {
            Some(fault) => fault.wrap(good, clock),
            None => good,
        };
        if over_link { support::suite_with_heartbeats(name, wrap) } else { support::suite(name, wrap) }
    };
    let broken = suite(fault.id, Some(fault));
    let is_slow = over_link || fault.caught_by.iter().any(|id| SLOW.contains(id) || id.starts_with("random/watches"));
    let time_limit = if is_slow { LONG_LIMIT } else { SHORT_LIMIT };
    let mut report = run(&broken, fault.caught_by, time_limit)?;
    // Cases of concurrent calls depend on how the system schedules them.
    for seed in MORE_SEEDS {
        let passed: Vec<_> =
            report.cases.iter().filter(|case| case.outcome == Outcome::Passed).map(|case| case.id).collect();
        if passed.is_empty() {
            break;
        }
        let again = run_seeded(&broken, &passed, time_limit, seed)?;
        report.cases.retain(|case| !passed.contains(&case.id));
        report.cases.extend(again.cases);
    }
    for id in fault.caught_by {
        let clause = find_case(id)?.clause;
        match report.cases.iter().find(|case| case.id == *id) {
            Some(CaseReport { outcome: Outcome::Failed { text }, .. })
                if text.contains(&format!("clause {clause}: ")) => {}
            Some(CaseReport { outcome: Outcome::Failed { text }, .. }) => {
                return Err(format!("the failure of {id} does not name clause {clause}: {text}").into());
            }
            Some(case) => return Err(format!("{id} does not catch the broken store: {case}").into()),
            None => return Err(format!("{id} does not apply to the broken store").into()),
        }
    }
    let good = run(&suite("good", None), fault.caught_by, LONG_LIMIT)?;
    if let Some(failure) = good.failures().next() {
        return Err(format!("the good store fails as well: {failure}").into());
    }
    if !fault.caught_by.contains(&BASIC) && !run(&broken, &[BASIC], LONG_LIMIT)?.is_green() {
        return Err(format!("the broken store also fails {BASIC}, so it is broken in more than one way").into());
    }
    Ok(())
}

fn run(suite: &Suite, ids: &[&str], time_limit: Duration) -> Result<Report, Failed> {
    run_seeded(suite, ids, time_limit, SEED)
}

fn run_seeded(suite: &Suite, ids: &[&str], time_limit: Duration, seed: u64) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let suite = suite.clone().with_time_limit(time_limit).with_cases_at_once(8).with_seed(seed);
    let report = runtime.block_on(suite.run_named(ids));
    // Does not wait for tasks, because a broken store may leave a task that never ends.
    runtime.shutdown_background();
    Ok(report)
}

fn ids_are_unique() -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    match Fault::all().find(|fault| !seen.insert(fault.id)) {
        Some(fault) => Err(format!("two broken stores have the id {}", fault.id).into()),
        None => Ok(()),
    }
}

/// Fails if a case catches no broken store, because such a case may test nothing.
fn every_case_catches_a_broken_store() -> Result<(), Failed> {
    let catching: BTreeSet<_> = Fault::all().flat_map(|fault| fault.caught_by).copied().collect();
    let listed: BTreeSet<_> = WITHOUT_BROKEN_STORE.iter().map(|(id, _)| *id).collect();
    let uncaught: BTreeSet<_> = Case::all().map(|case| case.id).filter(|id| !catching.contains(id)).collect();
    if uncaught == listed {
        return Ok(());
    }
    let (unlisted, caught): (Vec<_>, Vec<_>) =
        (uncaught.difference(&listed).collect(), listed.difference(&uncaught).collect());
    Err(format!("cases that no broken store fails: {unlisted:?}; cases listed as such that one does fail: {caught:?}")
        .into())
}
