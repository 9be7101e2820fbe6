//! Interleaved rounds for comparisons that do not use [`Subject`](kv_cli::bench::Subject). A side is identified by its
//! index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_cli::bench::{Operation, Series, Settings, Side};
use tokio::task::JoinSet;

/// The number of measured rounds and the time slice of each side in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) slice: Duration,
}

impl Rounds {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { count: settings.rounds, slice: settings.duration / u32::try_from(settings.rounds).unwrap() }
    }

    /// Measures each side once in each round and returns the figures of each side. The first round is a warm-up and is
    /// discarded.
    pub(crate) async fn run<const SIDES: usize>(self, mut measure: impl AsyncFnMut(usize) -> f64) -> [Series; SIDES] {
        let mut figures = [const { Series(Vec::new()) }; SIDES];
        for round in 0..=self.count {
            for (side, figures) in figures.iter_mut().enumerate() {
                let figure = measure(side).await;
                if round > 0 {
                    figures.0.push(figure);
                }
            }
        }
        figures
    }

    /// Measures as [`Rounds::run`] does, for synchronous code.
    pub(crate) fn run_inline<const SIDES: usize>(self, mut measure: impl FnMut(usize) -> f64) -> [Series; SIDES] {
        crate::raw::poll_until_ready(self.run(async |side| measure(side)))
    }

    /// Calls `run` during the time slice and returns operations per second. `run` returns its number of operations.
    pub(crate) async fn throughput(self, mut run: impl AsyncFnMut() -> usize) -> f64 {
        let (start, mut operations) = (Instant::now(), 0);
        while start.elapsed() < self.slice {
            operations += run().await;
        }
        operations as f64 / start.elapsed().as_secs_f64()
    }

    /// Returns operations per second of `tasks` concurrent tasks. Each task waits for its call before it starts the
    /// next call.
    pub(crate) async fn throughput_of_tasks(self, side: &Side, operation: Operation, tasks: usize) -> f64 {
        let (start, slice) = (Instant::now(), self.slice);
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            let (subject, mut traffic) = (Arc::clone(&side.subject), side.dataset.traffic());
            running.spawn(async move {
                let mut operations = 0;
                while start.elapsed() < slice {
                    subject.operate(operation, &mut traffic, 1).await.unwrap();
                    operations += 1;
                }
                operations
            });
        }
        let operations: usize = running.join_all().await.into_iter().sum();
        operations as f64 / start.elapsed().as_secs_f64()
    }

    /// Runs `operate` on one key after another and returns nanoseconds per operation. `position` is the index of the
    /// current key, and continues from round to round.
    pub(crate) fn nanos<K>(self, keys: &[K], position: &mut usize, mut operate: impl FnMut(&K)) -> f64 {
        /// The number of operations between two reads of the clock.
        const BATCH: usize = 256;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < self.slice {
            for _ in 0..BATCH {
                *position = if *position + 1 < keys.len() { *position + 1 } else { 0 };
                operate(&keys[*position]);
            }
            count += BATCH;
        }
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    }
}

/// Returns the median of a series, or NaN if the series is empty.
pub(crate) fn median(series: &Series) -> f64 {
    series.spread().map_or(f64::NAN, |spread| spread.median)
}
