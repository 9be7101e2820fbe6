//! The closed loop: each task starts its next call when the previous call completes. The closed loop measures
//! throughput.

use std::time::Duration;

use anykv::{Error, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::operation::Operation;
use super::subject::Side;

/// The results of one time slice of a side.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) operations: u64,
    pub(super) seconds: f64,
    /// A sample of the latencies, in nanoseconds.
    pub(super) nanos: Vec<u64>,
}

impl Slice {
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
        let operations = self.operations as f64;
        operations / self.seconds
    }
}

/// The number of operations that a task runs between two timed operations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch(usize);

impl Batch {
    /// Times each operation, for the first slice.
    pub(super) const ONE: Self = Self(1);

    /// Chooses a batch from the rate of an earlier slice. The batch is so large that the overhead is negligible, and
    /// takes at most 1/20 of a slice.
    pub(super) fn after(slice: &Slice, tasks: usize, length: Duration) -> Self {
        const MAX: f64 = 64.0;
        #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
        let rate_per_task = slice.rate() / tasks.max(1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number is between 1 and 64")]
        Self((length.as_secs_f64() / 20.0 * rate_per_task).clamp(1.0, MAX) as usize)
    }
}

/// Runs one time slice with `tasks` concurrent tasks.
pub(super) async fn run_slice(
    side: &Side,
    operation: Operation,
    tasks: usize,
    length: Duration,
    batch: Batch,
) -> Result<Slice> {
    let mut running = JoinSet::new();
    let start = Instant::now();
    for _ in 0..tasks.max(1) {
        running.spawn(task(side.clone(), operation, start, length, batch));
    }
    let mut slice = Slice::default();
    while let Some(finished) = running.join_next().await {
        let (operations, nanos) = finished.map_err(|error| Error::unavailable(error.to_string()))??;
        slice.operations += operations;
        slice.nanos.extend(nanos);
    }
    slice.seconds = start.elapsed().as_secs_f64();
    Ok(slice)
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
        // Time one operation after each batch.
        let issued = Instant::now();
        side.subject.operate(operation, &mut traffic, 1).await?;
        let completed = Instant::now();
        operations += 1;
        nanos.push(u64::try_from((completed - issued).as_nanos()).unwrap_or(u64::MAX));
        if completed - start >= length {
            return Ok((operations, nanos));
        }
        // A call on a memory store never waits. Yield to the other tasks and to an interrupt.
        tokio::task::yield_now().await;
    }
}
