//! Rounds in turns for what is no [`Subject`](kv_cli::bench::Subject): the sides of a comparison, by number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_cli::bench::{Operation, Series, Settings, Side};
use tokio::task::JoinSet;

/// How many rounds count, and how long a turn takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) turn: Duration,
}

impl Rounds {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { count: settings.rounds, turn: settings.duration / u32::try_from(settings.rounds).unwrap() }
    }

    /// Gives each side its turns and keeps its figures; the first round is thrown away.
    pub(crate) async fn run<const SIDES: usize>(self, mut turn: impl AsyncFnMut(usize) -> f64) -> [Series; SIDES] {
        let mut figures = [const { Series(Vec::new()) }; SIDES];
        for round in 0..=self.count {
            for (side, figures) in figures.iter_mut().enumerate() {
                let figure = turn(side).await;
                if round > 0 {
                    figures.0.push(figure);
                }
            }
        }
        figures
    }

    /// As [`Rounds::run`], where nothing waits.
    pub(crate) fn run_inline<const SIDES: usize>(self, mut turn: impl FnMut(usize) -> f64) -> [Series; SIDES] {
        crate::raw::now(self.run(async |side| turn(side)))
    }

    /// Operations a second of what does some and says how many.
    pub(crate) async fn rate(self, mut some: impl AsyncFnMut() -> usize) -> f64 {
        let (start, mut operations) = (Instant::now(), 0);
        while start.elapsed() < self.turn {
            operations += some().await;
        }
        operations as f64 / start.elapsed().as_secs_f64()
    }

    /// Operations a second of so many tasks that each wait for their answers.
    pub(crate) async fn rate_of_tasks(self, side: &Side, operation: Operation, tasks: usize) -> f64 {
        let (start, turn) = (Instant::now(), self.turn);
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            let (subject, mut traffic) = (Arc::clone(&side.subject), side.dataset.traffic());
            running.spawn(async move {
                let mut operations = 0;
                while start.elapsed() < turn {
                    subject.operate(operation, &mut traffic, 1).await.unwrap();
                    operations += 1;
                }
                operations
            });
        }
        let operations: usize = running.join_all().await.into_iter().sum();
        operations as f64 / start.elapsed().as_secs_f64()
    }

    /// Nanoseconds of an operation that is done on one key after another, again and again.
    pub(crate) fn nanos<K>(self, keys: &[K], place: &mut usize, mut operate: impl FnMut(&K)) -> f64 {
        const BETWEEN_LOOKS: usize = 256;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < self.turn {
            for _ in 0..BETWEEN_LOOKS {
                *place = if *place + 1 < keys.len() { *place + 1 } else { 0 };
                operate(&keys[*place]);
            }
            count += BETWEEN_LOOKS;
        }
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    }
}

/// The median of the figures of one side, for a text.
pub(crate) fn median(series: &Series) -> f64 {
    series.spread().map_or(f64::NAN, |spread| spread.median)
}
