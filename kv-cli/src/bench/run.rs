//! Runs a benchmark: loads the sides, measures the operations and creates the report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anykv::{Bytes, Key, Result};
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::closed::{self, Batch};
use super::dataset::Dataset;
use super::open;
use super::operation::Operation;
use super::report::{Closed, ClosedSide, Load, Open, OpenSide, Report};
use super::statistics::{Latencies, Series};
use super::subject::Side;
use crate::progress::Progress;
use crate::random::Random;

/// The settings of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// The operations, in the order of measurement.
    pub operations: Vec<Operation>,
    /// The numbers of concurrent tasks for the closed loop.
    pub tasks: Vec<usize>,
    /// The rates for the open loop, in operations per second.
    pub rates: Vec<f64>,
    /// The number of measured rounds, after one warm-up round.
    pub rounds: usize,
    /// The total duration of each measurement, over all rounds.
    #[serde(serialize_with = "humantime_text")]
    pub duration: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            operations: Operation::ALL.to_vec(),
            tasks: vec![1, 16, 256],
            rates: vec![1_000.0],
            rounds: 7,
            duration: Duration::from_secs(1),
        }
    }
}

impl Settings {
    fn slice(&self) -> Duration {
        self.duration / u32::try_from(self.rounds.max(1)).unwrap_or(u32::MAX)
    }
}

/// Loads every side and measures each operation on all sides in interleaved rounds.
///
/// # Errors
/// An error if an operation fails or returns a wrong result.
///
/// # Cancel safety
/// A dropped future leaves the written entries in the stores. Calls in flight may still be applied.
pub async fn run(sides: &[Side], settings: &Settings, progress: &Progress) -> Result<Report> {
    let mut report = Report {
        cores: std::thread::available_parallelism().map_or(1, Into::into),
        rounds: settings.rounds,
        value_bytes: sides.first().map_or(0, |side| side.dataset.value_bytes()),
        ..Report::default()
    };
    for side in sides {
        report.loads.push(load(side, progress).await?);
    }
    for &operation in &settings.operations {
        for &tasks in &settings.tasks {
            report.closed.extend(closed_loop(sides, operation, tasks, settings, progress).await?);
        }
        for &rate in &settings.rates {
            report.open.extend(open_loop(sides, operation, rate, settings, progress).await?);
        }
    }
    Ok(report)
}

/// Writes the entries of a side.
///
/// # Errors
/// An error if an entry was not stored.
pub async fn load(side: &Side, progress: &Progress) -> Result<Load> {
    const BATCH_ITEMS: u64 = 500;
    const BATCHES_IN_FLIGHT: usize = 4;
    let Side { subject, dataset, counters: _ } = side;
    progress.stage("loading", dataset.entries());
    let start = Instant::now();
    let batches: Vec<_> = dataset.batches(BATCH_ITEMS).collect();
    for batches in batches.chunks(BATCHES_IN_FLIGHT) {
        try_join_all(batches.iter().map(async |numbers| {
            let mut random = Random::new(numbers.start ^ 0x5DEE_CE66);
            let entry = |number| Ok((Dataset::key(number)?, Bytes::from(random.bytes(dataset.value_bytes()))));
            let entries: Vec<(Key, Bytes)> = numbers.clone().map(entry).collect::<Result<_>>()?;
            let count = entries.len();
            subject.load(entries).await?;
            progress.advance(count);
            Ok::<_, anykv::Error>(())
        }))
        .await?;
        // A call on a memory store never waits. Yield, so that an interrupt is noticed. The yield is outside of
        // `try_join_all`, which may poll woken futures again without returning.
        tokio::task::yield_now().await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (subject, durability) = (subject.name().to_owned(), subject.durability());
    Ok(Load { subject, durability, entries: dataset.entries(), seconds })
}

/// Measures the throughput of an operation on each side that supports it; `None` if no side does.
///
/// # Errors
/// An error if an operation fails or returns a wrong result.
pub async fn closed_loop(
    sides: &[Side],
    operation: Operation,
    tasks: usize,
    settings: &Settings,
    progress: &Progress,
) -> Result<Option<Closed>> {
    let supporting: Vec<&Side> = supporting(sides, operation);
    progress.stage(operation.name(), ((settings.rounds + 1) * supporting.len()) as u64);
    let mut measured: Vec<SideResults> = supporting.iter().map(|_| SideResults::default()).collect();
    for round in 0..=settings.rounds {
        for (side, measured) in supporting.iter().zip(&mut measured) {
            let before = side.read_counters();
            let slice = closed::run_slice(side, operation, tasks, settings.slice(), measured.batch).await?;
            if round == 0 {
                measured.batch = Batch::after(&slice, tasks, settings.slice());
            } else {
                measured.add(slice, &before, &side.read_counters());
            }
            progress.advance(1);
        }
    }
    let first = match (supporting.first(), sides.first()) {
        (Some(supporting), Some(first)) if is_same(supporting, first) => {
            measured.first().map(|measured| measured.rates.clone())
        }
        _ => None,
    };
    let sides: Vec<ClosedSide> = supporting
        .iter()
        .zip(measured)
        .enumerate()
        .filter_map(|(index, (side, measured))| measured.into_side(side, first.as_ref().filter(|_| index > 0)))
        .collect();
    Ok((!sides.is_empty()).then_some(Closed { operation, tasks, sides }))
}

/// Measures the latencies of an operation at a fixed rate on each side that supports it; `None` if no side does.
///
/// # Errors
/// An error if an operation fails or returns a wrong result.
pub async fn open_loop(
    sides: &[Side],
    operation: Operation,
    rate: f64,
    settings: &Settings,
    progress: &Progress,
) -> Result<Option<Open>> {
    let supporting = supporting(sides, operation);
    progress.stage(operation.name(), ((settings.rounds + 1) * supporting.len()) as u64);
    let mut latencies: Vec<Latencies> = supporting.iter().map(|_| Latencies::new()).collect();
    for round in 0..=settings.rounds {
        for (side, latencies) in supporting.iter().zip(&mut latencies) {
            let mut warm_up = Latencies::new();
            let recorder = if round == 0 { &mut warm_up } else { latencies };
            open::run_slice(side, operation, rate, settings.slice(), recorder).await?;
            progress.advance(1);
        }
    }
    let sides: Vec<OpenSide> = supporting
        .iter()
        .zip(&latencies)
        .filter_map(|(side, latencies)| {
            let (subject, entries) = (side.subject.name().to_owned(), side.dataset.entries());
            Some(OpenSide { subject, entries, latency: latencies.percentiles()? })
        })
        .collect();
    Ok((!sides.is_empty()).then_some(Open { operation, rate, sides }))
}

fn supporting(sides: &[Side], operation: Operation) -> Vec<&Side> {
    sides.iter().filter(|side| side.subject.can(operation)).collect()
}

fn is_same(one: &Side, other: &Side) -> bool {
    Arc::ptr_eq(&one.dataset, &other.dataset) && Arc::ptr_eq(&one.subject, &other.subject)
}

/// The results of the time slices of a side.
#[derive(Debug)]
struct SideResults {
    batch: Batch,
    rates: Series,
    latencies: Latencies,
    operations: u64,
    counted: BTreeMap<String, u64>,
}

impl Default for SideResults {
    fn default() -> Self {
        let (rates, latencies, counted) = (Series::default(), Latencies::new(), BTreeMap::new());
        Self { batch: Batch::ONE, rates, latencies, operations: 0, counted }
    }
}

impl SideResults {
    fn add(&mut self, slice: closed::Slice, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
        self.rates.0.push(slice.rate());
        self.operations += slice.operations;
        slice.nanos.into_iter().for_each(|nanos| self.latencies.record(nanos));
        for (name, after) in after {
            let increase = after.saturating_sub(before.get(name).copied().unwrap_or_default());
            *self.counted.entry(name.clone()).or_default() += increase;
        }
    }

    fn into_side(self, side: &Side, first: Option<&Series>) -> Option<ClosedSide> {
        let Self { batch: _, rates, latencies, operations, counted } = self;
        #[expect(clippy::cast_precision_loss, reason = "counts of operations")]
        let per_call = |count: u64| count as f64 / operations.max(1) as f64;
        let counted = counted.into_iter().map(|(name, count)| (name, per_call(count)));
        Some(ClosedSide {
            subject: side.subject.name().to_owned(),
            entries: side.dataset.entries(),
            rate: rates.spread()?,
            ratio: first.and_then(|first| rates.over(first).spread()),
            latency: latencies.percentiles(),
            // A counter that increases less than once in a thousand calls belongs to background work.
            counted: counted.filter(|(_, per_call)| *per_call >= 0.001).collect(),
        })
    }
}

fn humantime_text<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
