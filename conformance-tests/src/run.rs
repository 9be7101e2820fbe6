//! Runs one case, or all of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use kv_core::{Capability, Clock, KvStore, SystemClock};
use tokio::sync::Semaphore;

use crate::case::{Applies, Case};
use crate::context::Context;
use crate::failure::Failure;
use crate::folder;
use crate::fresh::Fresh;
use crate::report::{CaseReport, Outcome, Report};
use crate::script::compare;
use crate::suite::Suite;

impl Suite {
    /// Runs every case whose name contains `filter` and returns the report. A panic of the store is a failure of the
    /// case.
    ///
    /// Needs a tokio runtime with time enabled.
    pub async fn run(&self, filter: &str) -> Report {
        self.run_with(filter, |_| {}).await
    }

    /// Runs the cases as [`Suite::run`] does, and calls `on_result` with each result in the order of [`Case::all`], as
    /// soon as this result and all results before it are known.
    pub async fn run_with(&self, filter: &str, on_result: impl FnMut(&CaseReport) + Send) -> Report {
        self.run_where(|id| id.contains(filter), on_result).await
    }

    /// Runs the cases with exactly these ids, if they apply to the store.
    pub async fn run_named(&self, ids: &[&str]) -> Report {
        self.run_where(|id| ids.contains(&id), |_| {}).await
    }

    /// Runs the same random scripts on the stores of all these suites and compares the answers step by step. Scripts
    /// use the capabilities that all stores have. Versions are compared by the order in which they first appeared, and
    /// deadlines by their distance from the start of the script.
    ///
    /// # Errors
    /// Fails if two stores answer differently, and shows the script as Rust code. Fails if a store cannot be opened,
    /// cleared or closed.
    pub async fn compare(suites: &[Self]) -> Result<(), Failure> {
        let seed = suites.first().map_or(0, |suite| suite.seed);
        let mut stores = Vec::new();
        for suite in suites {
            let suite = suite.clone().with_seed(seed);
            let fresh = Fresh::new(&suite.name, "compare", seed);
            let store = suite.open(&fresh).await?;
            stores.push((suite.name.clone(), Context::new(suite, fresh, store)));
        }
        let verdict = compare(&stores).await;
        for (_, context) in stores {
            if context.has(Capability::List) {
                context.clean_up().await?;
            }
            context.store().close().await?;
        }
        verdict.map_err(|failure| Failure::new(format!("{failure}\nseed {seed}")))
    }

    async fn run_where(
        &self,
        is_wanted: impl Fn(&str) -> bool,
        mut on_result: impl FnMut(&CaseReport) + Send,
    ) -> Report {
        let permits = Arc::new(Semaphore::new(self.cases_at_once));
        let mut running: FuturesOrdered<_> = Case::all()
            .filter(|case| is_wanted(case.id))
            .filter_map(|case| match case.applies(&self.capabilities, self.hooks) {
                Applies::Omit => None,
                applies => Some((case, applies)),
            })
            .map(|(case, applies)| {
                let (suite, permits) = (self.clone(), Arc::clone(&permits));
                async move {
                    let _permit = permits.acquire().await;
                    match applies {
                        Applies::Skip(reason) => CaseReport::new(case, Outcome::Skipped { reason }, Duration::ZERO),
                        _ => suite.run_case(case).await,
                    }
                }
            })
            .collect();
        let mut cases = Vec::new();
        while let Some(report) = running.next().await {
            on_result(&report);
            cases.push(report);
        }
        Report::new(self.name.clone(), self.capabilities, self.seed, cases)
    }

    /// Runs one case against a store of its own.
    pub(crate) async fn run_case(&self, case: &'static Case) -> CaseReport {
        let start = SystemClock.now();
        let outcome = match self.try_case(case).await {
            Ok(()) => Outcome::Passed,
            Err(text) => Outcome::Failed { text },
        };
        CaseReport::new(case, outcome, SystemClock.now().duration_since(start).unwrap_or_default())
    }

    async fn try_case(&self, case: &'static Case) -> Result<(), String> {
        let fresh = Fresh::new(&self.name, case.id, self.seed);
        let store = self.open(&fresh).await.map_err(|error| {
            let failure = Failure::from(error);
            self.explain(case, rule_of(case), &Failure::new(format!("the store could not be opened: {failure}")), &[])
        })?;
        let context = Context::new(self.clone(), fresh.clone(), store);

        // The case runs in its own task, because a panic then ends only this task, and a case that hangs can be
        // aborted.
        let mut running = tokio::spawn((case.run)(context.clone()));
        let verdict = match tokio::time::timeout(self.time_limit, &mut running).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(panic)) => Err(Failure::new(format!("the case panicked: {}", panic_text(panic)))),
            Err(_) => {
                running.abort();
                let operations = context.store().activity().summary();
                Err(Failure::new(format!("the case did not end within {:?}{operations}", self.time_limit)))
            }
        };
        let result = verdict.map_err(|failure| self.explain(case, rule_of(case), &failure, &context.last_operations()));
        // Restores the link and the room on the disk, because a failed case may have left the link cut or the disk full.
        let _ = self.heal(&fresh).await;
        let _ = self.free_disk(&fresh).await;
        let cleaned = self.clean_up(case, &context).await;
        match (result, cleaned) {
            (Err(failed), Err(not_cleaned)) => Err(format!("{failed}\n  also: {not_cleaned}")),
            (result, cleaned) => result.and(cleaned),
        }
    }

    /// Clears and closes the store, so that no entries stay in a shared backend. Does not clear a store that the case
    /// closed, because a closed store refuses `clear`.
    async fn clean_up(&self, case: &Case, context: &Context) -> Result<(), String> {
        let result = if context.store().is_closed() || !self.capabilities.has(Capability::List) {
            Ok(())
        } else {
            context.clean_up().await.map_err(|failure| {
                let failure = Failure::new(format!("after the case, while the suite cleared the store: {failure}"));
                self.explain(case, CLEAN_UP_RULE, &failure, &context.last_operations())
            })
        };
        let _ = context.store().close().await;
        context.folders().iter().for_each(|folder| folder::remove(folder));
        result
    }

    /// The full text of a failure: the failed check, the clause and its rule, the last operations, the seed, and the
    /// command that runs the case again.
    fn explain(&self, case: &Case, (clause, rule): (&str, &str), failure: &Failure, operations: &[String]) -> String {
        let mut lines = vec![format!("{}: {failure}", case.id), format!("clause {clause}: {rule}")];
        if !operations.is_empty() {
            lines.push("last operations:".to_owned());
            lines.extend(operations.iter().map(|operation| format!("  {operation}")));
        }
        lines.push(format!("store {}, seed {}", self.name, self.seed));
        if let Some(rerun) = &self.rerun {
            let command = rerun.replace("{case}", case.id).replace("{seed}", &self.seed.to_string());
            lines.push(format!("run it again: {command}"));
        }
        lines.join("\n  ")
    }
}

/// The clause that a case tests, and its rule.
fn rule_of(case: &Case) -> (&'static str, &'static str) {
    (case.clause, case.rule)
}

/// The clause and the rule that a store violates if the suite cannot clear it after a case.
const CLEAN_UP_RULE: (&str, &str) =
    ("L-5", "`clear` removes every entry that existed at the call, however many pages it takes");

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "the task was cancelled".to_owned() };
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "the panic has no text".to_owned(),
    }
}
