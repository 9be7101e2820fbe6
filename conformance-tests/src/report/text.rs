//! The text form of a report.

use std::collections::BTreeMap;
use std::fmt;

use super::{CaseReport, Counts, Outcome, Report};
use crate::case::Level;

/// `ok`, `skip` or `FAIL`, with the name of the case and the duration, the reason or the failure.
impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "ok    {} ({:.0?})", self.id, self.duration),
            Outcome::Skipped { reason } => write!(f, "skip  {}: {reason}", self.id),
            Outcome::Failed { text } => write!(f, "FAIL  {text}"),
        }
    }
}

/// The failures, the failure texts that several cases share, the reasons of skipped cases, a line per level, and the
/// total.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in self.failures() {
            writeln!(f, "{failure}\n")?;
        }
        for (headline, cases) in self.headlines() {
            writeln!(f, "{cases} cases failed with: {headline}")?;
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &self.cases {
            if let Outcome::Skipped { reason } = &case.outcome {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        for (reason, cases) in reasons {
            writeln!(f, "skipped {cases}: {reason}")?;
        }
        for &level in Level::ALL {
            let Counts { passed, skipped, failed } = self.counts(Some(level));
            if passed + skipped + failed > 0 {
                writeln!(f, "{level:<13} {passed:>4} passed, {failed} failed, {skipped} skipped")?;
            }
        }
        let Counts { passed, skipped, failed } = self.counts(None);
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped on {} (seed {})", self.store, self.seed)
    }
}
