//! Closed loop: tasks that each ask for the next thing when the last one is answered. It finds the highest rate.

use std::time::Duration;

use anykv::{Error, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::operation::Operation;
use super::subject::Side;

/// What a turn of one side came to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) operations: u64,
    pub(super) seconds: f64,
    /// A sample of the latencies.
    pub(super) nanos: Vec<u64>,
}

impl Turn {
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
        let operations = self.operations as f64;
        operations / self.seconds
    }
}

/// How many operations a task does between two looks at the clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch(usize);

impl Batch {
    /// Looks at the clock after each, as is right where nothing is known.
    pub(super) const ONE: Self = Self(1);

    /// So many that what is around them costs nothing, and that a turn of this length still ends in time.
    pub(super) fn after(turn: &Turn, tasks: usize, length: Duration) -> Self {
        const MOST: f64 = 64.0;
        #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
        let each = turn.rate() / tasks.max(1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 64")]
        Self((length.as_secs_f64() / 20.0 * each).clamp(1.0, MOST) as usize)
    }
}

/// One turn: so many tasks for so long.
pub(super) async fn turn(
    side: &Side,
    operation: Operation,
    tasks: usize,
    length: Duration,
    batch: Batch,
) -> Result<Turn> {
    let mut running = JoinSet::new();
    let start = Instant::now();
    for _ in 0..tasks.max(1) {
        running.spawn(task(side.clone(), operation, start, length, batch));
    }
    let mut turn = Turn::default();
    while let Some(finished) = running.join_next().await {
        let (operations, nanos) = finished.map_err(|stopped| Error::unavailable(stopped.to_string()))??;
        turn.operations += operations;
        turn.nanos.extend(nanos);
    }
    turn.seconds = start.elapsed().as_secs_f64();
    Ok(turn)
}

async fn task(
    side: Side,
    operation: Operation,
    start: Instant,
    length: Duration,
    Batch(batch): Batch,
) -> Result<(u64, Vec<u64>)> {
    let mut traffic = side.dataset.traffic();
    let (mut operations, mut nanos) = (0, Vec::new());
    loop {
        if batch > 1 {
            side.subject.operate(operation, &mut traffic, batch).await?;
            operations += batch as u64;
        }
        // One of each batch is timed by itself.
        let issued = Instant::now();
        side.subject.operate(operation, &mut traffic, 1).await?;
        let answered = Instant::now();
        operations += 1;
        nanos.push(u64::try_from((answered - issued).as_nanos()).unwrap_or(u64::MAX));
        if answered - start >= length {
            return Ok((operations, nanos));
        }
        // A store in memory never waits: the other tasks, and an interrupt, have their turn here.
        tokio::task::yield_now().await;
    }
}
