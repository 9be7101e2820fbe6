//! What a client counts while it runs.

use std::time::Duration;

use anykv::{Error, Key};
use hdrhistogram::Histogram;

/// The kinds of operations that are reported.
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

/// Latencies, errors and wrong answers.
#[derive(Debug)]
pub(super) struct Tally {
    /// In nanoseconds, in the order of [`Kind::ALL`].
    pub(super) latencies: Vec<Histogram<u64>>,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    pub(super) unchecked: u64,
    /// The first of them, described.
    pub(super) problems: Vec<String>,
}

impl Tally {
    /// How many problems are described.
    const MAX_PROBLEMS: usize = 10;
    /// The longest latency that is told apart, in nanoseconds: an hour.
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

    pub(super) fn error(&mut self, place: &str, error: &Error) {
        self.errors += 1;
        self.describe(format!("{place}: {error}"));
    }

    pub(super) fn wrong(&mut self, place: &str, problem: &str) {
        self.wrong += 1;
        self.describe(format!("{place}: {problem}"));
    }

    pub(super) fn add(&mut self, other: Self) {
        let Self { latencies, errors, wrong, unchecked, problems } = other;
        for (sum, part) in self.latencies.iter_mut().zip(latencies) {
            // Both have the same bounds, so that everything fits.
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

/// Where something happened.
pub(super) fn place(line: u64, kind: Kind, key: &Key) -> String {
    format!("line {line}, {} of `{key}`", kind.name())
}
