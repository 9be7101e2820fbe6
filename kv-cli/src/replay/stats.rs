//! The statistics of a client.

use std::time::Duration;

use anykv::{Error, Key};
use hdrhistogram::Histogram;

/// The kinds of operations in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Set,
    Delete,
    Cas,
    List,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Get, Self::Set, Self::Delete, Self::Cas, Self::List];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Cas => "cas",
            Self::List => "list",
        }
    }
}

/// Latencies, errors and wrong results.
#[derive(Debug)]
pub(super) struct Stats {
    /// Latencies in nanoseconds, in the order of [`Kind::ALL`].
    pub(super) latencies: Vec<Histogram<u64>>,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    pub(super) unchecked: u64,
    /// Descriptions of the first errors and wrong results.
    pub(super) problems: Vec<String>,
}

impl Stats {
    /// The maximum number of problems with a description.
    const MAX_PROBLEMS: usize = 10;
    /// The maximum recorded latency in nanoseconds: one hour. Longer latencies count as one hour.
    const MAX_NANOS: u64 = 3_600_000_000_000;

    pub(super) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, Self::MAX_NANOS, 3).ok();
        let latencies = Kind::ALL.iter().filter_map(|_| histogram()).collect();
        Self { latencies, errors: 0, wrong: 0, unchecked: 0, problems: Vec::new() }
    }

    pub(super) fn record(&mut self, kind: Kind, latency: Duration) {
        if let Some(histogram) = self.latencies.get_mut(kind as usize) {
            histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
        }
    }

    pub(super) fn error(&mut self, context: &str, error: &Error) {
        self.errors += 1;
        self.describe(format!("{context}: {error}"));
    }

    pub(super) fn wrong(&mut self, context: &str, problem: &str) {
        self.wrong += 1;
        self.describe(format!("{context}: {problem}"));
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { latencies, errors, wrong, unchecked, problems } = other;
        for (sum, part) in self.latencies.iter_mut().zip(latencies) {
            // Cannot fail: both histograms have the same bounds.
            let _ = sum.add(part);
        }
        self.errors += errors;
        self.wrong += wrong;
        self.unchecked += unchecked;
        for problem in problems {
            self.describe(problem);
        }
    }

    fn describe(&mut self, problem: String) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// Describes an operation for a problem.
pub(super) fn context(line: u64, kind: Kind, key: &Key) -> String {
    format!("line {line}, {} of `{key}`", kind.name())
}
