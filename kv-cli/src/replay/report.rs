//! What a replay found.

use std::fmt;

use serde::Serialize;

use super::tally::{Kind, Tally};
use crate::escape::{self, Layout};

/// Rates, latencies, errors and wrong answers of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The name of the store's backend.
    pub backend: String,
    /// How many clients ran side by side.
    pub clients: usize,
    /// What was loaded before, where something was.
    pub prefill: Option<Prefilled>,
    /// The rounds, in order.
    pub rounds: Vec<Round>,
    /// Latencies by kind of operation, of all rounds together.
    pub latencies: Vec<Latency>,
    /// Operations that failed.
    pub errors: u64,
    /// Answers that differ from the model's.
    pub wrong: u64,
    /// Answers on keys whose content a failed write left open.
    pub unchecked: u64,
    /// The first errors and wrong answers.
    pub problems: Vec<String>,
}

/// The load before a replay.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Prefilled {
    /// How many entries were written.
    pub entries: u64,
    /// How long it took.
    pub seconds: f64,
}

/// One run of the workload, without the check at its end.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// How many operations were issued.
    pub operations: u64,
    /// How long they took.
    pub seconds: f64,
    /// Operations per second.
    pub rate: f64,
}

/// The latencies of one kind of operation, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// `get`, `set`, `delete`, `cas` or `list`.
    pub operation: &'static str,
    /// How many there were.
    pub count: u64,
    /// Half were faster.
    pub p50_us: f64,
    /// 99 in 100 were faster.
    pub p99_us: f64,
    /// 999 in 1,000 were faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Report {
    pub(super) fn new(
        backend: String,
        clients: usize,
        prefill: Option<Prefilled>,
        rounds: Vec<Round>,
        tally: Tally,
    ) -> Self {
        let Tally { latencies, errors, wrong, unchecked, problems } = tally;
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

    /// Whether every operation was answered, and rightly.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.wrong == 0
    }
}

/// A table for people, safe for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, clients, prefill, rounds, latencies, errors, wrong, unchecked, problems } = self;
        writeln!(f, "store    {backend}, {clients} client{}", if *clients == 1 { "" } else { "s" })?;
        if let Some(Prefilled { entries, seconds }) = prefill {
            writeln!(f, "prefill  {entries} entries in {seconds:.2} s")?;
        }
        for (place, Round { operations, seconds, rate }) in rounds.iter().enumerate() {
            writeln!(f, "round {:<2} {operations} operations in {seconds:.3} s: {rate:.0} a second", place + 1)?;
        }
        writeln!(f, "{:<8}{:>10}{:>12}{:>12}{:>12}{:>12}", "µs", "count", "p50", "p99", "p99.9", "max")?;
        for Latency { operation, count, p50_us, p99_us, p999_us, max_us } in latencies {
            writeln!(f, "{operation:<8}{count:>10}{p50_us:>12.1}{p99_us:>12.1}{p999_us:>12.1}{max_us:>12.1}")?;
        }
        write!(f, "errors {errors}, wrong answers {wrong}, unchecked {unchecked}")?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {}", escape::text(problem, Layout::Line)))
    }
}
