//! Runs the suite as a test program, or as single tests.

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

use crate::case::{Applies, Case};
use crate::report::{Outcome, headlines};
use crate::suite::Suite;

/// The failure texts of a run, for the summary at its end.
type Failed = Arc<Mutex<Vec<String>>>;

impl Suite {
    /// Runs the cases as a test program, for a `[[test]]` with `harness = false`. `cargo test` and `cargo nextest` list
    /// every case and take their usual filters. Never returns. Listing does not open the store.
    pub fn main(mut self) -> ! {
        self.rerun.get_or_insert_with(|| "CONFORMANCE_SEED={seed} cargo test --test conformance {case}".to_owned());
        let mut arguments = Arguments::from_args();
        // All cases share one backend, which more cases at a time would slow down.
        arguments.test_threads.get_or_insert(4);
        let unreachable = if self.optional && !arguments.list { self.open_error() } else { None };
        let failed = Failed::default();
        let trials = match unreachable {
            Some(reason) => vec![Trial::test(format!("NOT RUN: {reason}"), || Ok(())).with_ignored_flag(true)],
            None => self.trials(&failed),
        };
        let conclusion = libtest_mimic::run(&arguments, trials);
        let texts = failed.lock().unwrap_or_else(PoisonError::into_inner);
        for (headline, cases) in headlines(texts.iter().map(String::as_str)) {
            println!("{cases} cases failed with: {headline}");
        }
        conclusion.exit()
    }

    fn trials(&self, failed: &Failed) -> Vec<Trial> {
        Case::all()
            .filter_map(|case| match case.applies(&self.capabilities, self.hooks) {
                Applies::Omit => None,
                Applies::Skip(reason) => {
                    Some(Trial::test(case.id, || Ok(())).with_kind(reason).with_ignored_flag(true))
                }
                Applies::Run => {
                    let (suite, failed) = (self.clone(), Arc::clone(failed));
                    Some(Trial::test(case.id, move || {
                        suite.run_blocking(case).map_err(|text| {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
                            text.into()
                        })
                    }))
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
        let fresh = crate::suite::Fresh::new("reachable", self.seed);
        runtime.block_on(self.open(&fresh)).err().map(|error| error.to_string())
    }
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
        $crate::clear! { $suite }
        $crate::namespaces! { $suite }
        $crate::namespace_keys! { $suite }
        $crate::errors! { $suite }
        $crate::cancel! { $suite }
        $crate::restart! { $suite }
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
        $crate::messages! { $suite }
        $crate::concurrency! { $suite }
        $crate::neighbours! { $suite }
        $crate::shared! { $suite }
        $crate::processes! { $suite }
        $crate::outage! { $suite }
        $crate::random! { $suite }
        $crate::refuses! { $suite }
    };
}
