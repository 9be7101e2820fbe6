//! Open loop: operations begin at fixed times, whether those before are answered or not, as the requests of users do.
//!
//! A latency counts from the moment at which the operation was due. So a store that stands still for a second shows that
//! second in the latency of everything that came due meanwhile; a closed loop would have waited with it and shown it once,
//! which is called coordinated omission.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anykv::Result;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::figures::Latencies;
use super::operation::Operation;
use super::subject::Side;
use super::traffic::Traffic;

/// So many operations are under way at most. The others wait, and their latencies count on.
const MAX_UNDER_WAY: usize = 10_000;

/// The system wakes a thread this much too late at worst, as a rule; the rest is waited for awake.
const WAKING: Duration = Duration::from_micros(80);

/// Issues operations at a rate for so long, waits for their answers, and adds their latencies.
pub(super) async fn turn(
    side: &Side,
    operation: Operation,
    rate: f64,
    length: Duration,
    latencies: &mut Latencies,
) -> Result<u64> {
    let (answers, mut answered) = unbounded_channel();
    let pace =
        Pace { side: side.clone(), operation, rate, length, answers, idle: Arc::default(), under_way: Arc::default() };
    // A task cannot wait for less than a millisecond, a thread can.
    let runtime = Handle::current();
    let pacing = tokio::task::spawn_blocking(move || pace.run(&runtime));
    let taken = take(&mut answered, latencies).await;
    // The thread ends with the answers: it holds the last sender but those of operations under way.
    drop(answered);
    let _ = pacing.await;
    taken
}

async fn take(answered: &mut UnboundedReceiver<Result<u64>>, latencies: &mut Latencies) -> Result<u64> {
    let mut count = 0;
    while let Some(answer) = answered.recv().await {
        latencies.record(answer?);
        count += 1;
    }
    Ok(count)
}

struct Pace {
    side: Side,
    operation: Operation,
    rate: f64,
    length: Duration,
    answers: UnboundedSender<Result<u64>>,
    /// Traffic of operations that are answered, for those to come.
    idle: Arc<Mutex<Vec<Traffic>>>,
    under_way: Arc<AtomicUsize>,
}

impl Pace {
    /// Begins each operation when it is due; ends early when nobody takes the answers any more.
    fn run(self, runtime: &Handle) {
        let start = Instant::now();
        let mut number = 0_u32;
        loop {
            let due_after = Duration::from_secs_f64(f64::from(number) / self.rate);
            if due_after >= self.length || self.answers.is_closed() {
                return;
            }
            let due = start + due_after;
            wait_until(due);
            while self.under_way.load(Ordering::Acquire) >= MAX_UNDER_WAY && !self.answers.is_closed() {
                thread::yield_now();
            }
            self.under_way.fetch_add(1, Ordering::AcqRel);
            runtime.spawn(self.issue(due));
            number += 1;
        }
    }

    fn issue(&self, due: Instant) -> impl Future<Output = ()> + Send + use<> {
        let Self { side, operation, rate: _, length: _, answers, idle, under_way } = self;
        let (side, operation, answers) = (side.clone(), *operation, answers.clone());
        let (idle, under_way) = (Arc::clone(idle), Arc::clone(under_way));
        async move {
            let some = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut traffic = some.unwrap_or_else(|| side.dataset.traffic());
            let answer = side.subject.operate(operation, &mut traffic, 1).await;
            let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(traffic);
            under_way.fetch_sub(1, Ordering::AcqRel);
            // Whoever measured may have given up.
            let _ = answers.send(answer.map(|()| nanos));
        }
    }
}

fn wait_until(due: Instant) {
    let ahead = due.saturating_duration_since(Instant::now());
    if let Some(asleep) = ahead.checked_sub(WAKING) {
        #[expect(clippy::disallowed_methods, reason = "the pace of a measurement is that of the real time")]
        thread::sleep(asleep);
    }
    while Instant::now() < due {
        thread::yield_now();
    }
}
