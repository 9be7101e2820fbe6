//! The report of a run.

mod markdown;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use kv_core::Capabilities;
use serde::Serialize;

pub use self::markdown::matrix;
use crate::case::{Case, Level};

/// The results of all cases on one store.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The name of the store.
    pub store: String,
    /// The capabilities that the store declares.
    #[serde(skip)]
    pub capabilities: Capabilities,
    /// The seed of the random choices.
    pub seed: u64,
    /// The results of all cases that apply to the store, in the order of [`Case::all`].
    pub cases: Vec<CaseReport>,
}

/// The result of one case.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CaseReport {
    /// The name of the case.
    pub id: &'static str,
    /// The level of the clause.
    #[serde(serialize_with = "level_name")]
    pub level: Level,
    /// The id of the clause that the case tests.
    pub clause: &'static str,
    /// The rule that must hold.
    pub rule: &'static str,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The duration, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
}

/// The outcome of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The case found no violation of the clause.
    Passed,
    /// The case was not run.
    Skipped {
        /// The missing requirement.
        reason: String,
    },
    /// The store violates the clause.
    Failed {
        /// The full text of the failure.
        text: String,
    },
}

/// The numbers of cases by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// The number of cases that passed.
    pub passed: usize,
    /// The number of cases that were not run, because the store lacks a capability or the harness an ability.
    pub skipped: usize,
    /// The number of cases that failed.
    pub failed: usize,
}

impl Report {
    pub(crate) fn new(store: String, capabilities: Capabilities, seed: u64, cases: Vec<CaseReport>) -> Self {
        Self { store, capabilities, seed, cases }
    }

    /// True if at least one case ran and none failed.
    pub fn is_green(&self) -> bool {
        let Counts { passed, failed, skipped: _ } = self.counts(None);
        failed == 0 && passed > 0
    }

    /// The numbers of cases by outcome, of one level or of all levels.
    pub fn counts(&self, level: Option<Level>) -> Counts {
        let mut counts = Counts::default();
        for case in self.cases.iter().filter(|case| level.is_none_or(|level| case.level == level)) {
            match case.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Skipped { .. } => counts.skipped += 1,
                Outcome::Failed { .. } => counts.failed += 1,
            }
        }
        counts
    }

    /// The reports of the cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed { .. }))
    }

    /// The failure texts that several cases share, each with the number of these cases. Such failures often have one
    /// cause.
    pub fn headlines(&self) -> Vec<(String, usize)> {
        headlines(self.failures().filter_map(|case| match &case.outcome {
            Outcome::Failed { text } => Some(text.as_str()),
            Outcome::Passed | Outcome::Skipped { .. } => None,
        }))
    }

    /// The whole report as JSON: `store`, `seed`, and `cases` with `id`, `level`, `clause`, `rule`, `outcome`,
    /// `duration` in seconds and, if there is one, `reason` or `text`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl CaseReport {
    pub(crate) fn new(case: &Case, outcome: Outcome, duration: Duration) -> Self {
        let Case { id, level, clause, rule, needs: _, run: _ } = *case;
        Self { id, level, clause, rule, outcome, duration }
    }
}

/// The first lines that several of these failures share, each with the number of failures, the most frequent first. A
/// line is given without the id of its case, and shortened.
pub(crate) fn headlines<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<(String, usize)> {
    const MAX_CHARACTERS: usize = 200;
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        let first = text.lines().next().unwrap_or_default();
        *counted.entry(first.split_once(": ").map_or(first, |(_, headline)| headline)).or_default() += 1;
    }
    let short = |text: &str| match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    };
    let mut several: Vec<_> =
        counted.into_iter().filter(|(_, cases)| *cases > 1).map(|(text, cases)| (short(text), cases)).collect();
    several.sort_by_key(|(_, cases)| std::cmp::Reverse(*cases));
    several
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn level_name<S: serde::Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(level)
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
