//! The report of a replay.

use std::fmt;

use serde::Serialize;

use super::stats::{Kind, Stats};
use crate::escape::{self, Layout};

/// The throughput, latencies, errors and wrong results of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The name of the store's backend.
    pub backend: String,
    /// The number of concurrent clients.
    pub clients: usize,
    /// The prefill, or `None` for a replay without a prefill.
    pub prefill: Option<Prefilled>,
    /// The rounds, in order.
    pub rounds: Vec<Round>,
    /// Latencies by kind of operation, over all rounds.
    pub latencies: Vec<Latency>,
    /// The number of failed operations.
    pub errors: u64,
    /// The number of results that differ from the model.
    pub wrong: u64,
    /// The number of results that were not checked, because an indeterminate write left the state of the key unknown.
    pub unchecked: u64,
    /// Descriptions of the first errors and wrong results.
    pub problems: Vec<String>,
}

/// The prefill before a replay.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Prefilled {
    /// The number of loaded entries.
    pub entries: u64,
    /// The duration of the load in seconds.
    pub seconds: f64,
}

/// One run of the workload, without the check at the end.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// The number of operations.
    pub operations: u64,
    /// The duration of the round in seconds.
    pub seconds: f64,
    /// The number of operations per second.
    pub rate: f64,
}

/// The latencies of one kind of operation, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// `get`, `set`, `delete`, `cas` or `list`.
    pub operation: &'static str,
    /// The number of operations.
    pub count: u64,
    /// The p50 latency.
    pub p50_us: f64,
    /// The p99 latency.
    pub p99_us: f64,
    /// The p99.9 latency.
    pub p999_us: f64,
    /// The maximum.
    pub max_us: f64,
}

impl Report {
    pub(super) fn new(
        backend: String,
        clients: usize,
        prefill: Option<Prefilled>,
        rounds: Vec<Round>,
        stats: Stats,
    ) -> Self {
        let Stats { latencies, errors, wrong, unchecked, problems } = stats;
        #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 nanoseconds")]
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let latencies = Kind::ALL
            .iter()
            .zip(&latencies)
            .filter(|(_, histogram)| !histogram.is_empty())
            .map(|(kind, histogram)| Latency {
                operation: kind.name(),
                count: histogram.len(),
                p50_us: micros(histogram.value_at_quantile(0.5)),
                p99_us: micros(histogram.value_at_quantile(0.99)),
                p999_us: micros(histogram.value_at_quantile(0.999)),
                max_us: micros(histogram.max()),
            })
            .collect();
        Self { backend, clients, prefill, rounds, latencies, errors, wrong, unchecked, problems }
    }

    /// True if no operation failed and every checked result was correct.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.wrong == 0
    }
}

/// The report as text, safe for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, clients, prefill, rounds, latencies, errors, wrong, unchecked, problems } = self;
        writeln!(f, "store    {backend}, {clients} client{}", if *clients == 1 { "" } else { "s" })?;
        if let Some(Prefilled { entries, seconds }) = prefill {
            writeln!(f, "prefill  {entries} entries in {seconds:.2} s")?;
        }
        for (index, Round { operations, seconds, rate }) in rounds.iter().enumerate() {
            writeln!(f, "round {:<2} {operations} operations in {seconds:.3} s: {rate:.0} per second", index + 1)?;
        }
        writeln!(f, "{:<8}{:>10}{:>12}{:>12}{:>12}{:>12}", "µs", "count", "p50", "p99", "p99.9", "max")?;
        for Latency { operation, count, p50_us, p99_us, p999_us, max_us } in latencies {
            writeln!(f, "{operation:<8}{count:>10}{p50_us:>12.1}{p99_us:>12.1}{p999_us:>12.1}{max_us:>12.1}")?;
        }
        write!(f, "errors {errors}, wrong results {wrong}, unchecked {unchecked}")?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {}", escape::text(problem, Layout::Line)))
    }
}
