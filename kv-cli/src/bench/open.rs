//! The open loop: operations start at a fixed rate, independently of earlier operations, like the requests of users.
//!
//! A latency is measured from the scheduled start of the operation. If a store stalls for a second, all operations that
//! are scheduled in this second have a high latency. A closed loop would stall too, and would record only one high
//! latency per task. This error is called coordinated omission.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anykv::Result;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::operation::Operation;
use super::statistics::Latencies;
use super::subject::Side;
use super::traffic::Traffic;

/// The maximum number of operations in flight. Further operations wait, and their wait counts as latency.
const MAX_IN_FLIGHT: usize = 10_000;

/// The longest usual delay with which the system wakes a sleeping thread. The pacer sleeps until this time before the
/// start of an operation, and then yields in a loop.
const MAX_WAKE_DELAY: Duration = Duration::from_micros(80);

/// Issues operations at a fixed rate for one time slice, waits for their results, and records their latencies. Returns
/// the number of operations.
pub(super) async fn run_slice(
    side: &Side,
    operation: Operation,
    rate: f64,
    length: Duration,
    latencies: &mut Latencies,
) -> Result<u64> {
    let (results, mut completed) = unbounded_channel();
    let pacer =
        Pacer { side: side.clone(), operation, rate, length, results, idle: Arc::default(), in_flight: Arc::default() };
    // The pacer has its own thread, because timers of tokio have a resolution of a millisecond.
    let runtime = Handle::current();
    let pacing = tokio::task::spawn_blocking(move || pacer.run(&runtime));
    let count = receive(&mut completed, latencies).await;
    // The drop stops the pacer after an error, because the pacer checks whether the channel is closed.
    drop(completed);
    let _ = pacing.await;
    count
}

async fn receive(completed: &mut UnboundedReceiver<Result<u64>>, latencies: &mut Latencies) -> Result<u64> {
    let mut count = 0;
    while let Some(result) = completed.recv().await {
        latencies.record(result?);
        count += 1;
    }
    Ok(count)
}

struct Pacer {
    side: Side,
    operation: Operation,
    rate: f64,
    length: Duration,
    results: UnboundedSender<Result<u64>>,
    /// The generators of completed operations. Later operations use them again.
    idle: Arc<Mutex<Vec<Traffic>>>,
    in_flight: Arc<AtomicUsize>,
}

impl Pacer {
    /// Starts each operation at its scheduled time. Returns early if the receiver is dropped.
    fn run(self, runtime: &Handle) {
        let start = Instant::now();
        let mut number = 0_u32;
        loop {
            let offset = Duration::from_secs_f64(f64::from(number) / self.rate);
            if offset >= self.length || self.results.is_closed() {
                return;
            }
            let scheduled = start + offset;
            wait_until(scheduled);
            while self.in_flight.load(Ordering::Acquire) >= MAX_IN_FLIGHT && !self.results.is_closed() {
                thread::yield_now();
            }
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            runtime.spawn(self.issue(scheduled));
            number += 1;
        }
    }

    fn issue(&self, scheduled: Instant) -> impl Future<Output = ()> + Send + use<> {
        let Self { side, operation, rate: _, length: _, results, idle, in_flight } = self;
        let (side, operation, results) = (side.clone(), *operation, results.clone());
        let (idle, in_flight) = (Arc::clone(idle), Arc::clone(in_flight));
        async move {
            let reused = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut traffic = reused.unwrap_or_else(|| side.dataset.traffic());
            let result = side.subject.operate(operation, &mut traffic, 1).await;
            let nanos = u64::try_from(scheduled.elapsed().as_nanos()).unwrap_or(u64::MAX);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(traffic);
            in_flight.fetch_sub(1, Ordering::AcqRel);
            // The receiver is dropped after an error.
            let _ = results.send(result.map(|()| nanos));
        }
    }
}

fn wait_until(scheduled: Instant) {
    let ahead = scheduled.saturating_duration_since(Instant::now());
    if let Some(duration) = ahead.checked_sub(MAX_WAKE_DELAY) {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs in real time")]
        thread::sleep(duration);
    }
    while Instant::now() < scheduled {
        thread::yield_now();
    }
}
