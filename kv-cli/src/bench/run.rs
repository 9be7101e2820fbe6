//! A measurement from the empty store to the report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anykv::{Bytes, Key, Result};
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::closed::{self, Batch};
use super::dataset::Dataset;
use super::figures::{Latencies, Series};
use super::open;
use super::operation::Operation;
use super::report::{Closed, ClosedSide, Load, Open, OpenSide, Report};
use super::subject::Side;
use crate::progress::Progress;
use crate::random::Random;

/// What is measured, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// What is measured, in this order.
    pub operations: Vec<Operation>,
    /// With how many tasks side by side the highest rate is looked for.
    pub tasks: Vec<usize>,
    /// The fixed rates, in operations a second, at which latencies are taken.
    pub rates: Vec<f64>,
    /// How many rounds count; one more goes before them and is thrown away.
    pub rounds: usize,
    /// How long each figure is measured, over all rounds.
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
    fn turn(&self) -> Duration {
        self.duration / u32::try_from(self.rounds.max(1)).unwrap_or(u32::MAX)
    }
}

/// Fills every side and measures each operation on all of them in turns.
///
/// # Errors
/// An operation failed, or had an answer that it cannot have.
///
/// # Cancel safety
/// A dropped future leaves the entries that were written; calls that were under way may still be applied.
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
/// An entry was not stored.
pub async fn load(side: &Side, progress: &Progress) -> Result<Load> {
    const ITEMS: u64 = 500;
    const IN_FLIGHT: usize = 4;
    let Side { subject, dataset, counters: _ } = side;
    progress.stage("loading", dataset.entries());
    let start = Instant::now();
    let batches: Vec<_> = dataset.batches(ITEMS).collect();
    for batches in batches.chunks(IN_FLIGHT) {
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
        // A store in memory never waits: an interrupt is heard here, outside of anything that polls on by itself.
        tokio::task::yield_now().await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (subject, durability) = (subject.name().to_owned(), subject.durability());
    Ok(Load { subject, durability, entries: dataset.entries(), seconds })
}

/// Finds the highest rate of an operation on each side that can do it; `None` where none can.
///
/// # Errors
/// An operation failed, or had an answer that it cannot have.
pub async fn closed_loop(
    sides: &[Side],
    operation: Operation,
    tasks: usize,
    settings: &Settings,
    progress: &Progress,
) -> Result<Option<Closed>> {
    let able: Vec<&Side> = able(sides, operation);
    progress.stage(operation.name(), ((settings.rounds + 1) * able.len()) as u64);
    let mut measured: Vec<Measured> = able.iter().map(|_| Measured::default()).collect();
    for round in 0..=settings.rounds {
        for (side, measured) in able.iter().zip(&mut measured) {
            let before = side.counted();
            let turn = closed::turn(side, operation, tasks, settings.turn(), measured.batch).await?;
            if round == 0 {
                measured.batch = Batch::after(&turn, tasks, settings.turn());
            } else {
                measured.take(turn, &before, &side.counted());
            }
            progress.advance(1);
        }
    }
    let first = match (able.first(), sides.first()) {
        (Some(able), Some(first)) if is_same(able, first) => measured.first().map(|measured| measured.rates.clone()),
        _ => None,
    };
    let sides: Vec<ClosedSide> = able
        .iter()
        .zip(measured)
        .enumerate()
        .filter_map(|(place, (side, measured))| measured.into_side(side, first.as_ref().filter(|_| place > 0)))
        .collect();
    Ok((!sides.is_empty()).then_some(Closed { operation, tasks, sides }))
}

/// Takes the latencies of an operation at a fixed rate on each side that can do it; `None` where none can.
///
/// # Errors
/// An operation failed, or had an answer that it cannot have.
pub async fn open_loop(
    sides: &[Side],
    operation: Operation,
    rate: f64,
    settings: &Settings,
    progress: &Progress,
) -> Result<Option<Open>> {
    let able = able(sides, operation);
    progress.stage(operation.name(), ((settings.rounds + 1) * able.len()) as u64);
    let mut latencies: Vec<Latencies> = able.iter().map(|_| Latencies::new()).collect();
    for round in 0..=settings.rounds {
        for (side, latencies) in able.iter().zip(&mut latencies) {
            let mut warm_up = Latencies::new();
            let taken = if round == 0 { &mut warm_up } else { latencies };
            open::turn(side, operation, rate, settings.turn(), taken).await?;
            progress.advance(1);
        }
    }
    let sides: Vec<OpenSide> = able
        .iter()
        .zip(&latencies)
        .filter_map(|(side, latencies)| {
            let (subject, entries) = (side.subject.name().to_owned(), side.dataset.entries());
            Some(OpenSide { subject, entries, latency: latencies.percentiles()? })
        })
        .collect();
    Ok((!sides.is_empty()).then_some(Open { operation, rate, sides }))
}

fn able(sides: &[Side], operation: Operation) -> Vec<&Side> {
    sides.iter().filter(|side| side.subject.can(operation)).collect()
}

fn is_same(one: &Side, other: &Side) -> bool {
    Arc::ptr_eq(&one.dataset, &other.dataset) && Arc::ptr_eq(&one.subject, &other.subject)
}

/// What a side's turns came to so far.
#[derive(Debug)]
struct Measured {
    batch: Batch,
    rates: Series,
    latencies: Latencies,
    operations: u64,
    counted: BTreeMap<String, u64>,
}

impl Default for Measured {
    fn default() -> Self {
        let (rates, latencies, counted) = (Series::default(), Latencies::new(), BTreeMap::new());
        Self { batch: Batch::ONE, rates, latencies, operations: 0, counted }
    }
}

impl Measured {
    fn take(&mut self, turn: closed::Turn, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
        self.rates.0.push(turn.rate());
        self.operations += turn.operations;
        turn.nanos.into_iter().for_each(|nanos| self.latencies.record(nanos));
        for (what, after) in after {
            let grown = after.saturating_sub(before.get(what).copied().unwrap_or_default());
            *self.counted.entry(what.clone()).or_default() += grown;
        }
    }

    fn into_side(self, side: &Side, first: Option<&Series>) -> Option<ClosedSide> {
        let Self { batch: _, rates, latencies, operations, counted } = self;
        #[expect(clippy::cast_precision_loss, reason = "counts of operations")]
        let each = |count: u64| count as f64 / operations.max(1) as f64;
        let counted = counted.into_iter().map(|(what, count)| (what, each(count)));
        Some(ClosedSide {
            subject: side.subject.name().to_owned(),
            entries: side.dataset.entries(),
            rate: rates.spread()?,
            ratio: first.and_then(|first| rates.over(first).spread()),
            latency: latencies.percentiles(),
            // What is rarer than one in a thousand is not the operation's.
            counted: counted.filter(|(_, each)| *each >= 0.001).collect(),
        })
    }
}

fn humantime_text<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
