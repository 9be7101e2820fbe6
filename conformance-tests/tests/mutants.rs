//! Every broken store is caught by the cases that are named beside it, and every case catches a broken store.

mod support;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance_tests::faulty::Fault;
use conformance_tests::{Case, CaseReport, Outcome, Report, Suite};
use libtest_mimic::{Arguments, Failed, Trial};

/// Passes on every store that is broken in something else.
const BASIC: &str = "basics/set_then_get";

/// A broken store that leaves its caller waiting has failed.
const IMPATIENT: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(60);

/// Cases that take longer than that on a good store.
const SLOW: &[&str] = &["list/a_hundred_thousand"];

/// Cases that no broken store of this crate fails, and why.
const NOT_CAUGHT_OUT: &[(&str, &str)] = &[
    ("keys/every_way_to_the_same_key", "it is kv-core that builds keys"),
    ("keys/no_segments_is_refused", "it is kv-core that builds keys"),
    ("keys/too_long_is_refused", "it is kv-core that builds keys"),
    ("values/the_buffer_is_the_callers", "`Bytes` cannot be written while it is shared"),
    ("restart/dropped_without_close", "needs a store that survives its process"),
    ("shared/a_dropped_handle_leaves_the_other", "needs a store that loses what a dropped handle wrote"),
    ("processes/a_dropped_handle_leaves_the_other", "needs a store that loses what a dropped handle wrote"),
    ("processes/changes_are_heard", "needs watch between processes; `tests/processes.rs` fails it"),
    ("processes/messages_are_heard", "needs messages between processes; `tests/processes.rs` fails it"),
    ("sweep/two_hundred_thousand_unread", "takes seconds; `touch/sweep_counts_the_live` fails it"),
    ("races/histories_with_expiry_are_linearizable", "takes seconds; histories without conditions are caught out"),
];

static CAUGHT: AtomicUsize = AtomicUsize::new(0);
static TRIED: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("names_of_faults_are_unique", names_are_unique),
        Trial::test("every_case_is_caught_out", every_case_is_caught_out),
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

/// Fails unless each named case fails over the broken store for its clause, and passes over the good one.
fn is_caught(fault: &'static Fault) -> Result<(), Failed> {
    let named = |id: &str| Case::all().find(|case| case.id == id).ok_or(format!("there is no case {id}"));
    let first = fault.caught_by.first().ok_or("no case is named that catches it")?;
    let clause = named(first)?.clause;
    if clause != fault.clause {
        return Err(format!("it breaks {}, and {first} proves {clause}", fault.clause).into());
    }

    let broken = support::suite(fault.id, |good, clock| fault.wrap(good, clock));
    let is_slow = fault.caught_by.iter().any(|id| SLOW.contains(id));
    let report = run(&broken, fault.caught_by, if is_slow { PATIENT } else { IMPATIENT })?;
    for id in fault.caught_by {
        let clause = named(id)?.clause;
        match report.cases.iter().find(|case| case.id == *id) {
            Some(CaseReport { outcome: Outcome::Failed { text }, .. })
                if text.contains(&format!("clause {clause}: ")) => {}
            Some(CaseReport { outcome: Outcome::Failed { text }, .. }) => {
                return Err(format!("the failure of {id} does not name clause {clause}: {text}").into());
            }
            Some(case) => return Err(format!("{id} does not catch it: {case}").into()),
            None => return Err(format!("{id} does not apply to it").into()),
        }
    }
    let good = run(&support::suite("good", |good, _| good), fault.caught_by, PATIENT)?;
    if let Some(failure) = good.failures().next() {
        return Err(format!("the good store fails, too: {failure}").into());
    }
    if !fault.caught_by.contains(&BASIC) && !run(&broken, &[BASIC], PATIENT)?.is_green() {
        return Err(format!("it is broken beyond its story: {BASIC} fails").into());
    }
    Ok(())
}

fn run(suite: &Suite, ids: &[&str], time_limit: Duration) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let suite = suite.clone().with_time_limit(time_limit).with_cases_at_once(8).with_seed(7);
    let report = runtime.block_on(suite.run_named(ids));
    // A broken store may leave a task that waits for ever.
    runtime.shutdown_background();
    Ok(report)
}

fn names_are_unique() -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    match Fault::all().find(|fault| !seen.insert(fault.id)) {
        Some(fault) => Err(format!("two faults are called {}", fault.id).into()),
        None => Ok(()),
    }
}

/// A case that nothing fails proves nothing.
fn every_case_is_caught_out() -> Result<(), Failed> {
    let catching: BTreeSet<_> = Fault::all().flat_map(|fault| fault.caught_by).copied().collect();
    let excused: BTreeSet<_> = NOT_CAUGHT_OUT.iter().map(|(id, _)| *id).collect();
    let idle: BTreeSet<_> = Case::all().map(|case| case.id).filter(|id| !catching.contains(id)).collect();
    if idle == excused {
        return Ok(());
    }
    let (new, done): (Vec<_>, Vec<_>) = (idle.difference(&excused).collect(), excused.difference(&idle).collect());
    Err(format!("cases that no broken store fails: {new:?}; cases that are excused for nothing: {done:?}").into())
}
