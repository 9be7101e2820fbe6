//! Running one case, and all of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use kv_core::{Capability, Clock, KvStore, SystemClock};
use tokio::sync::Semaphore;

use crate::case::{Applies, Case};
use crate::context::Context;
use crate::failure::Failure;
use crate::recorder::Recorder;
use crate::report::{CaseReport, Outcome, Report};
use crate::script::compare;
use crate::suite::{Fresh, Suite};

impl Suite {
    /// Runs every case whose name contains `filter` and reports what came of each. Panics of the store are failures.
    ///
    /// Needs a tokio runtime with time enabled.
    pub async fn run(&self, filter: &str) -> Report {
        self.run_with(filter, |_| {}).await
    }

    /// As [`Suite::run`], and tells each result as it comes, in the order of the table.
    pub async fn run_with(&self, filter: &str, tell: impl FnMut(&CaseReport) + Send) -> Report {
        self.run_where(|id| id.contains(filter), tell).await
    }

    /// Runs the cases of exactly these names, as far as they apply to the store.
    pub async fn run_named(&self, ids: &[&str]) -> Report {
        self.run_where(|id| ids.contains(&id), |_| {}).await
    }

    /// Plays the same random scripts on the stores of all these suites, with what every one of them can do, and compares their
    /// answers step by step: versions by the order in which they were seen, deadlines by the distance from the start.
    ///
    /// # Errors
    /// Where two stores answer differently, with the script as code.
    pub async fn compare(suites: &[Self]) -> Result<(), Failure> {
        let seed = suites.first().map_or(0, |suite| suite.seed);
        let mut stores = Vec::new();
        for suite in suites {
            let suite = suite.clone().with_seed(seed);
            let fresh = Fresh::new("compare", seed);
            let store = Recorder::new(suite.open(&fresh).await?);
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

    async fn run_where(&self, is_wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(&CaseReport) + Send) -> Report {
        let room = Arc::new(Semaphore::new(self.cases_at_once));
        let mut running: FuturesOrdered<_> = Case::all()
            .filter(|case| is_wanted(case.id))
            .filter_map(|case| match case.applies(&self.capabilities, self.hooks) {
                Applies::Omit => None,
                applies => Some((case, applies)),
            })
            .map(|(case, applies)| {
                let (suite, room) = (self.clone(), Arc::clone(&room));
                async move {
                    let _permit = room.acquire().await;
                    match applies {
                        Applies::Skip(reason) => CaseReport::new(case, Outcome::Skipped { reason }, Duration::ZERO),
                        _ => suite.run_case(case).await,
                    }
                }
            })
            .collect();
        let mut cases = Vec::new();
        while let Some(report) = running.next().await {
            tell(&report);
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
        let fresh = Fresh::new(case.id, self.seed);
        let store = self.open(&fresh).await.map_err(|error| {
            let failure = Failure::from(error);
            self.explain(case, rule_of(case), &Failure::new(format!("the store could not be opened: {failure}")), &[])
        })?;
        let context = Context::new(self.clone(), fresh.clone(), Recorder::new(store));

        // In a task of its own, so that a panic is caught and a hang ends.
        let mut running = tokio::spawn((case.run)(context.clone()));
        let verdict = match tokio::time::timeout(self.time_limit, &mut running).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(panic)) => Err(Failure::new(format!("it panicked: {}", panic_text(panic)))),
            Err(_) => {
                running.abort();
                Err(Failure::new(format!("it was not through after {:?}", self.time_limit)))
            }
        };
        let result = verdict.map_err(|failure| self.explain(case, rule_of(case), &failure, &context.last_operations()));
        // A case that failed may have left the link cut.
        let _ = self.heal(&fresh).await;
        self.tidy(case, &context).await.and(result)
    }

    /// Leaves nothing behind in a backend that others use. Where a case has closed its store, nothing is left to be done.
    async fn tidy(&self, case: &Case, context: &Context) -> Result<(), String> {
        let result = if context.store().is_closed() || !self.capabilities.has(Capability::List) {
            Ok(())
        } else {
            context.clean_up().await.map_err(|failure| {
                let failure = Failure::new(format!("behind the case, when the suite cleared the store: {failure}"));
                self.explain(case, CLEAN_UP, &failure, &context.last_operations())
            })
        };
        let _ = context.store().close().await;
        result
    }

    /// The whole story of a failure: rule, clause, what went wrong, what was done last, and how to run it again.
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

/// The clause that a case proves, and what it says there.
fn rule_of(case: &Case) -> (&'static str, &'static str) {
    (case.clause, case.rule)
}

/// What a store breaks that cannot be cleared, whatever the case was about.
const CLEAN_UP: (&str, &str) = ("L-5", "`clear` removes all that was there at the call, however many pages that are");

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "the task was cancelled".to_owned() };
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "without a text".to_owned(),
    }
}
