//! Batches: concurrent calls over single keys that share one statement over many keys.
//!
//! Each running statement holds a slot. If a slot is free, a call takes the slot, and the caller sends the call at once
//! and alone. Otherwise the call is queued, and the next statement sends all queued calls. Therefore no call waits for
//! others to arrive, and a busy store sends few large statements.
//!
//! While a statement is slow, another statement may start. A slow statement may wait for a row that another session has
//! locked, or its caller may have stopped polling. In neither case do the queued calls wait for the slow statement.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::adapter::Effect;
use kv_core::{Clock, Result, SystemClock};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Cause, Failure};
use crate::runtime::runtime_ended;
use crate::state::State;

/// The maximum number of running statements of one kind, including slow statements.
const MAX_STATEMENTS: usize = 4;
/// The duration after which a running statement counts as slow. A write to a fast disk takes less time. With a slower
/// disk or a distant server, statements count as slow, so more statements run at once.
const SLOW_AFTER: Duration = Duration::from_millis(3);
/// The queue length at which a second statement may run. A statement with so many calls uses the server's processors
/// more than its disk, so two statements in parallel are faster.
const LONG_QUEUE: usize = 64;
/// The maximum number of yields after a batch. The yields let the callers of the batch queue their next calls.
const MAX_YIELDS: usize = 4;
/// The maximum number of calls in one statement.
const MAX_CALLS: usize = 1_000;
/// The minimum length of the queue at which dropped calls are removed from the queue.
const MIN_PURGE_LEN: usize = 1_024;
/// The maximum total size of the calls in one statement, in bytes. A larger call is sent alone.
const MAX_BYTES: usize = 4 << 20;

/// A call that can share a statement with other calls of its kind.
pub(crate) trait BatchedCall: Send + Sized + 'static {
    type Response: Send + 'static;
    /// The maximum number of statements of this kind that run at once, not counting slow statements. The number is at
    /// least one. A long queue raises this number to at least two.
    const MAX_FAST_STATEMENTS: usize;

    /// The approximate number of bytes that the call adds to a statement or to its response.
    fn bytes(&self) -> usize;

    /// The effect of the call if the server ran it.
    fn effect(&self) -> Effect;

    /// Sends the calls in one statement, or a single call in the statement for one key. Returns one response for each
    /// call, in the order of the calls.
    fn send(state: Arc<State>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<Self::Response>>>;
}

/// The queue and the running statements of one kind of call.
pub(crate) struct Batcher<C: BatchedCall> {
    state: Arc<State>,
    queue: Mutex<Queue<C>>,
}

struct Queue<C: BatchedCall> {
    /// For each slot, the start time of its statement, or `None` if the slot is free.
    slots: [Option<Instant>; MAX_STATEMENTS],
    /// Calls that found no free slot.
    calls: VecDeque<QueuedCall<C>>,
    /// The length of the queue at which dropped calls are removed: twice the length after the previous removal.
    purge_at: usize,
    /// True while the task of [`Batcher::poll_queue`] runs.
    is_polled: bool,
}

struct QueuedCall<C: BatchedCall> {
    call: C,
    responder: oneshot::Sender<Result<C::Response>>,
    queued_at: Instant,
}

impl<C: BatchedCall> QueuedCall<C> {
    /// True if the caller has dropped the call.
    fn is_dropped(&self) -> bool {
        self.responder.is_closed()
    }
}

/// The index of a taken slot, and the calls that its statement sends.
type Batch<C> = (usize, Vec<QueuedCall<C>>);

impl<C: BatchedCall> Queue<C> {
    fn new() -> Self {
        Self { slots: [None; MAX_STATEMENTS], calls: VecDeque::new(), purge_at: MIN_PURGE_LEN, is_polled: false }
    }

    /// True if a running statement is slow.
    fn has_slow_statement(&self) -> bool {
        self.slots.iter().flatten().any(|started| started.elapsed() >= SLOW_AFTER)
    }

    /// Takes a free slot if another statement may run now. Returns the index of the slot.
    fn take_slot(&mut self) -> Option<usize> {
        let now = Instant::now();
        let fast = self.slots.iter().flatten().filter(|started| now.duration_since(**started) < SLOW_AFTER).count();
        let is_long = self.calls.len() >= LONG_QUEUE;
        if fast >= C::MAX_FAST_STATEMENTS.max(1 + usize::from(is_long)) {
            return None;
        }
        let (index, slot) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_none())?;
        *slot = Some(now);
        Some(index)
    }

    fn free_slot(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = None;
        }
    }

    /// Queues a call. If the queue is long, first removes the calls that their callers have dropped.
    fn push(&mut self, queued: QueuedCall<C>) {
        if self.calls.len() >= self.purge_at {
            self.calls.retain(|queued| !queued.is_dropped());
            self.purge_at = self.calls.len().saturating_mul(2).max(MIN_PURGE_LEN);
        }
        self.calls.push_back(queued);
    }

    /// Takes a slot and the calls of the next statement, if any calls are queued and a slot is free. Does not
    /// send a call that was dropped, or a call that was queued for longer than `timeout`. The latter gets an error.
    fn next_batch(&mut self, timeout: Duration) -> Option<Batch<C>> {
        let is_obsolete = |queued: &QueuedCall<C>| queued.is_dropped() || queued.queued_at.elapsed() > timeout;
        while self.calls.front().is_some_and(is_obsolete) {
            let Some(QueuedCall { call, responder, .. }) = self.calls.pop_front() else { break };
            let _ = responder.send(Err(Failure::NotSent(Cause::Timeout).into_error(call.effect())));
        }
        if self.calls.is_empty() {
            return None;
        }
        let slot = self.take_slot()?;
        let (mut batch, mut bytes) = (Vec::with_capacity(self.calls.len().min(MAX_CALLS)), 0_usize);
        while let Some(queued) = self.calls.pop_front() {
            if !batch.is_empty() && queued.is_dropped() {
                continue;
            }
            let size = queued.call.bytes();
            if !batch.is_empty() && (batch.len() == MAX_CALLS || bytes.saturating_add(size) > MAX_BYTES) {
                self.calls.push_front(queued);
                break;
            }
            bytes = bytes.saturating_add(size);
            batch.push(queued);
        }
        Some((slot, batch))
    }
}

impl<C: BatchedCall> Batcher<C> {
    pub(crate) fn new(state: &Arc<State>) -> Arc<Self> {
        Arc::new(Self { state: Arc::clone(state), queue: Mutex::new(Queue::new()) })
    }

    /// Sends a call, alone or in a batch, and returns its response.
    pub(crate) async fn call(self: &Arc<Self>, call: C) -> Result<C::Response> {
        let effect = call.effect();
        let response = match self.admit(call) {
            Admission::Now(call, slot) => {
                let response = C::send(Arc::clone(&self.state), vec![call]).await.pop();
                drop(slot);
                response
            }
            Admission::Queued(response) => response.await.ok(),
        };
        response.unwrap_or_else(|| Err(runtime_ended(effect)))
    }

    /// Takes a slot for the call, or queues the call.
    fn admit(self: &Arc<Self>, call: C) -> Admission<C> {
        let mut queue = self.queue();
        // The caller of a slow statement may have stopped polling, and keeps a slot and a connection. Several such
        // callers would keep all slots and connections. Therefore, while a statement is slow, tasks send further calls.
        if !queue.has_slow_statement()
            && let Some(slot) = queue.take_slot()
        {
            return Admission::Now(call, SlotGuard::new(self, slot));
        }
        let (responder, response) = oneshot::channel();
        queue.push(QueuedCall { call, responder, queued_at: Instant::now() });
        SlotGuard::spawn(self, queue.next_batch(self.state.connections.timeout));
        if !std::mem::replace(&mut queue.is_polled, true) {
            self.state.runtime.spawn(Self::poll_queue(Arc::clone(self)));
        }
        Admission::Queued(response)
    }

    /// Starts further statements beside slow statements while calls are queued. The holders of the slots cannot start
    /// these statements, because the caller of a slow statement may have stopped polling.
    async fn poll_queue(self: Arc<Self>) {
        let mut is_polled = true;
        while is_polled {
            SystemClock.sleep(SLOW_AFTER).await;
            let batch = {
                let mut queue = self.queue();
                let batch = queue.next_batch(self.state.connections.timeout);
                is_polled = !queue.calls.is_empty();
                queue.is_polled = is_polled;
                batch
            };
            SlotGuard::spawn(&self, batch);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<C>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: BatchedCall> std::fmt::Debug for Batcher<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.queue();
        let running = queue.slots.iter().flatten().count();
        f.debug_struct("Batcher").field("running", &running).field("queued", &queue.calls.len()).finish()
    }
}

enum Admission<C: BatchedCall> {
    /// The caller sends the call itself.
    Now(C, SlotGuard<C>),
    /// A task sends the call in a batch. The receiver gets the response.
    Queued(oneshot::Receiver<Result<C::Response>>),
}

/// A taken slot. Dropping the guard frees the slot, and starts the next statement if calls are queued.
struct SlotGuard<C: BatchedCall> {
    batcher: Arc<Batcher<C>>,
    /// The index of the slot, or `None` once the slot is free.
    slot: Option<usize>,
}

impl<C: BatchedCall> SlotGuard<C> {
    fn new(batcher: &Arc<Batcher<C>>, slot: usize) -> Self {
        Self { batcher: Arc::clone(batcher), slot: Some(slot) }
    }

    /// Frees the slot. If calls are queued, takes a slot again and returns the calls to send.
    fn next_batch(&mut self) -> Option<Vec<QueuedCall<C>>> {
        let mut queue = self.batcher.queue();
        queue.free_slot(self.slot.take()?);
        let (slot, batch) = queue.next_batch(self.batcher.state.connections.timeout)?;
        self.slot = Some(slot);
        Some(batch)
    }

    /// Sends a batch, and then further batches while calls are queued.
    async fn run(mut self, batch: Vec<QueuedCall<C>>) {
        let mut next = Some(batch);
        while let Some(batch) = next {
            let (calls, responders): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|queued| (queued.call, queued.responder)).unzip();
            let sent = calls.len();
            let responses = C::send(Arc::clone(&self.batcher.state), calls).await;
            for (responder, response) in responders.into_iter().zip(responses) {
                // If the caller has dropped its call, nothing needs the response.
                let _ = responder.send(response);
            }
            for _ in 0..MAX_YIELDS {
                tokio::task::yield_now().await;
                if self.batcher.queue().calls.len() >= sent {
                    break;
                }
            }
            next = self.next_batch();
        }
    }

    /// Starts a task that sends a batch, if there is one.
    fn spawn(batcher: &Arc<Batcher<C>>, batch: Option<Batch<C>>) {
        if let Some((slot, batch)) = batch {
            batcher.state.runtime.spawn(Self::new(batcher, slot).run(batch));
        }
    }
}

impl<C: BatchedCall> Drop for SlotGuard<C> {
    fn drop(&mut self) {
        let batch = self.next_batch();
        Self::spawn(&self.batcher, self.slot.take().zip(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of the given size in bytes.
    struct Fake(usize);

    impl BatchedCall for Fake {
        type Response = ();
        const MAX_FAST_STATEMENTS: usize = 1;

        fn bytes(&self) -> usize {
            self.0
        }

        fn effect(&self) -> Effect {
            Effect::Read
        }

        fn send(_: Arc<State>, _: Vec<Self>) -> BoxFuture<'static, Vec<Result<()>>> {
            unreachable!("these tests send nothing")
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn enqueue(queue: &mut Queue<Fake>, bytes: usize) -> oneshot::Receiver<Result<()>> {
        let (responder, response) = oneshot::channel();
        queue.push(QueuedCall { call: Fake(bytes), responder, queued_at: Instant::now() });
        response
    }

    /// The number of calls in the next batch.
    fn next_len(queue: &mut Queue<Fake>) -> Option<usize> {
        queue.next_batch(TIMEOUT).map(|(_, batch)| batch.len())
    }

    #[tokio::test(start_paused = true)]
    async fn one_statement_runs_at_a_time_and_another_may_start_beside_a_slow_statement() {
        let mut queue = Queue::new();
        let first = queue.take_slot().unwrap();
        let _response = [enqueue(&mut queue, 1), enqueue(&mut queue, 1)];
        assert_eq!(next_len(&mut queue), None);
        queue.free_slot(first);
        assert_eq!(next_len(&mut queue), Some(2));
        for running in 1..MAX_STATEMENTS {
            let _response = enqueue(&mut queue, 1);
            assert_eq!(next_len(&mut queue), None, "{running}");
            tokio::time::advance(SLOW_AFTER).await;
            assert!(queue.has_slow_statement());
            assert_eq!(next_len(&mut queue), Some(1), "{running}");
        }
        // Slow statements hold all slots.
        tokio::time::advance(SLOW_AFTER).await;
        let _response = enqueue(&mut queue, 1);
        assert_eq!(next_len(&mut queue), None);
        queue.free_slot(2);
        assert_eq!(next_len(&mut queue), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_queue_allows_a_second_statement() {
        let mut queue = Queue::new();
        queue.take_slot().unwrap();
        let mut responses: Vec<_> = (1..LONG_QUEUE).map(|_| enqueue(&mut queue, 1)).collect();
        assert_eq!(next_len(&mut queue), None);
        responses.push(enqueue(&mut queue, 1));
        assert_eq!(next_len(&mut queue), Some(LONG_QUEUE));
        responses.extend((0..LONG_QUEUE).map(|_| enqueue(&mut queue, 1)));
        assert_eq!(next_len(&mut queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_bounded_and_a_call_that_is_too_large_is_sent_alone() {
        let mut queue = Queue::new();
        let sizes = [2 * MAX_BYTES, 1, MAX_BYTES - 1, 1];
        let _large: Vec<_> = sizes.into_iter().map(|bytes| enqueue(&mut queue, bytes)).collect();
        for calls in [1, 2, 1] {
            assert_eq!(next_len(&mut queue), Some(calls));
            (0..MAX_STATEMENTS).for_each(|slot| queue.free_slot(slot));
        }
        let _many: Vec<_> = (0..=MAX_CALLS).map(|_| enqueue(&mut queue, 1)).collect();
        assert_eq!(next_len(&mut queue), Some(MAX_CALLS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_queued_for_too_long_is_not_sent() {
        let mut queue = Queue::new();
        let mut early = enqueue(&mut queue, 1);
        tokio::time::advance(TIMEOUT + Duration::from_millis(1)).await;
        let mut late = enqueue(&mut queue, 1);
        assert_eq!(next_len(&mut queue), Some(1));
        assert_eq!(early.try_recv().unwrap().unwrap_err().kind(), kv_core::ErrorKind::Unavailable);
        assert!(late.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_is_not_sent_and_leaves_the_queue() {
        let mut queue = Queue::new();
        let slot = queue.take_slot().unwrap();
        for _ in 0..100 * MIN_PURGE_LEN {
            drop(enqueue(&mut queue, 1));
        }
        assert!(queue.calls.len() <= MIN_PURGE_LEN + 1);
        let _kept = [enqueue(&mut queue, 1), enqueue(&mut queue, 1)];
        queue.free_slot(slot);
        assert_eq!(next_len(&mut queue), Some(2));
    }
}
