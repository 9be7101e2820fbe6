//! Runs the suite as a test program, or as single tests.

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

use crate::case::{Applies, Case};
use crate::process;
use crate::report::{Outcome, headlines};
use crate::suite::Suite;

/// The failure texts of a run, for the summary at its end.
type Failed = Arc<Mutex<Vec<String>>>;

impl Suite {
    /// Runs the cases as a test program, for a `[[test]]` with `harness = false`. `cargo test` and `cargo nextest` list
    /// every case and take their usual filters. Never returns. Listing does not open the store.
    pub fn main(self) -> ! {
        run_as_program([self], |_, case| case.to_owned())
    }

    /// Runs the cases of several suites as one test program, as [`Suite::main`] does for one. A case's name begins with
    /// the name of its suite: `mine-tls::expiry/zero_is_absent`. The suites' names must differ. A suite's backend stops
    /// after the last case of the suite.
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::Suite;
    /// use kv_memory::{CAPABILITIES, MemoryStore};
    ///
    /// let suite = |name| Suite::new(name, CAPABILITIES, |_fresh| async { Ok(MemoryStore::new()) });
    /// Suite::main_of([suite("mine"), suite("mine-again")]);
    /// ```
    pub fn main_of(suites: impl IntoIterator<Item = Self>) -> ! {
        run_as_program(suites, |suite, case| format!("{suite}::{case}"))
    }

    /// One trial per case. `name_of` returns the name of a trial, given the suite's name and the case's.
    fn into_trials(self, failed: &Failed, name_of: fn(&str, &str) -> String) -> Vec<Trial> {
        Case::all()
            .filter_map(|case| {
                let name = name_of(&self.name, case.id);
                match case.applies(&self.capabilities, self.hooks) {
                    Applies::Omit => None,
                    Applies::Skip(reason) => {
                        Some(Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true))
                    }
                    Applies::Run => {
                        let (suite, failed) = (self.clone(), Arc::clone(failed));
                        Some(Trial::test(name, move || {
                            suite.run_blocking(case).map_err(|text| {
                                failed.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
                                text.into()
                            })
                        }))
                    }
                }
            })
            .collect()
    }

    /// Runs the case with this id on a runtime of its own, for a `#[test]`.
    ///
    /// # Panics
    /// Panics if the case fails, with the full text of the failure, or if there is no such case.
    pub fn test(&self, id: &str) {
        let Some(case) = Case::all().find(|case| case.id == id) else { panic!("there is no case `{id}`") };
        match case.applies(&self.capabilities, self.hooks) {
            Applies::Run => self.run_blocking(case).unwrap_or_else(|text| panic!("{text}")),
            Applies::Skip(reason) => eprintln!("skipped: {reason}"),
            Applies::Omit => eprintln!("skipped: the store has the capability whose refusal this case checks"),
        }
    }

    fn run_blocking(&self, case: &'static Case) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| format!("could not start a runtime for the case: {error}"))?;
        match runtime.block_on(self.run_case(case)).outcome {
            Outcome::Failed { text } => Err(text),
            Outcome::Passed | Outcome::Skipped { .. } => Ok(()),
        }
    }

    /// The reason why the store cannot be opened, or `None` if it can be opened.
    fn open_error(&self) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let fresh = crate::fresh::Fresh::new(&self.name, "reachable", self.seed);
        runtime.block_on(self.open(&fresh)).err().map(|error| error.to_string())
    }
}

/// Runs the trials of all suites. Never returns.
///
/// # Panics
/// Panics in a child process that belongs to none of the suites.
fn run_as_program(suites: impl IntoIterator<Item = Suite>, name_of: fn(&str, &str) -> String) -> ! {
    assert!(!process::is_child(), "no suite of this program has the name that the first process asked for");
    let mut arguments = Arguments::from_args();
    // Cases share their backends, and more concurrent cases would slow the backends down.
    arguments.test_threads.get_or_insert(4);
    let failed = Failed::default();
    let mut trials = Vec::new();
    for mut suite in suites {
        let case = name_of(&suite.name, "{case}");
        suite.rerun.get_or_insert_with(|| format!("CONFORMANCE_SEED={{seed}} cargo test --test conformance {case}"));
        let unreachable = if suite.optional && !arguments.list { suite.open_error() } else { None };
        match unreachable {
            Some(reason) => {
                let name = name_of(&suite.name, &format!("NOT RUN: {reason}"));
                trials.push(Trial::test(name, || Ok(())).with_ignored_flag(true));
            }
            None => trials.extend(suite.into_trials(&failed, name_of)),
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let texts = failed.lock().unwrap_or_else(PoisonError::into_inner);
    for (headline, cases) in headlines(texts.iter().map(String::as_str)) {
        println!("{cases} cases failed with: {headline}");
    }
    conclusion.exit()
}

/// Makes one `#[test]` per case, in a module per subject. The argument is an expression that returns the [`Suite`].
///
/// # Examples
/// ```
/// use conformance_tests::Suite;
/// use kv_memory::{CAPABILITIES, MemoryStore};
///
/// fn suite() -> Suite {
///     Suite::new("memory", CAPABILITIES, |_fresh| async { Ok(MemoryStore::new()) })
/// }
///
/// conformance_tests::tests!(suite());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! tests {
    ($suite:expr) => {
        $crate::basics! { $suite }
        $crate::keys! { $suite }
        $crate::values! { $suite }
        $crate::expiry! { $suite }
        $crate::expired! { $suite }
        $crate::deadlines! { $suite }
        $crate::moments! { $suite }
        $crate::touch! { $suite }
        $crate::sweep! { $suite }
        $crate::list! { $suite }
        $crate::ranges! { $suite }
        $crate::pages! { $suite }
        $crate::long_lists! { $suite }
        $crate::list_cost! { $suite }
        $crate::clear! { $suite }
        $crate::namespaces! { $suite }
        $crate::namespace_keys! { $suite }
        $crate::errors! { $suite }
        $crate::cancel! { $suite }
        $crate::restart! { $suite }
        $crate::crash! { $suite }
        $crate::damage! { $suite }
        $crate::full_disk! { $suite }
        $crate::injectivity! { $suite }
        $crate::conditions! { $suite }
        $crate::conditional_deletes! { $suite }
        $crate::versions! { $suite }
        $crate::races! { $suite }
        $crate::transactions! { $suite }
        $crate::atomicity! { $suite }
        $crate::large_transactions! { $suite }
        $crate::counters! { $suite }
        $crate::batch! { $suite }
        $crate::large_batches! { $suite }
        $crate::watch! { $suite }
        $crate::watch_paths! { $suite }
        $crate::watch_targets! { $suite }
        $crate::watch_snapshot! { $suite }
        $crate::watch_moments! { $suite }
        $crate::watch_loss! { $suite }
        $crate::watch_changes! { $suite }
        $crate::watch_sinks! { $suite }
        $crate::zero_bound! { $suite }
        $crate::messages! { $suite }
        $crate::concurrency! { $suite }
        $crate::neighbours! { $suite }
        $crate::shared! { $suite }
        $crate::openers! { $suite }
        $crate::processes! { $suite }
        $crate::outage! { $suite }
        $crate::random! { $suite }
        $crate::reads! { $suite }
        $crate::bounded_reads! { $suite }
        $crate::refuses! { $suite }
    };
}
