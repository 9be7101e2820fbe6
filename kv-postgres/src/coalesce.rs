//! Batches of concurrent single calls: one statement over many keys.
//!
//! A call that finds a free slot is sent at once and alone, by its own caller. Otherwise it is queued, and the next
//! statement takes all queued calls. So no call is delayed to wait for others, no call joins a statement that is
//! already running, and a busy store sends few large statements.
//!
//! A slow statement frees room for another one. It may wait for a row that another session has locked, or its caller
//! may be a future that is not polled. Neither stops the queued calls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::adapter::Effect;
use kv_core::{Clock, Result, SystemClock};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Cause, Fault};
use crate::runtime::runtime_ended;
use crate::state::State;

/// The maximum number of running statements of one kind, slow ones included.
const MAX_STATEMENTS: usize = 4;
/// The age from which a statement counts as slow: longer than a write to a good disk takes. With a slower disk or a
/// distant server, more statements run at once.
const SLOW_AFTER: Duration = Duration::from_millis(3);
/// The queue length from which a second statement pays: so many calls load the server's processors more than its disk.
const LONG_QUEUE: usize = 64;
/// Yields after a batch was answered, so that its callers can queue their next calls for the next batch.
const MAX_YIELDS: usize = 4;
/// The maximum number of calls in one statement.
const MAX_CALLS: usize = 1_000;
/// The least length at which the queue is searched for dropped calls.
const MIN_PURGE: usize = 1_024;
/// The maximum bytes of the calls in one statement. A single call may exceed it.
const MAX_BYTES: usize = 4 << 20;

/// A call that can share a statement with others of its kind.
pub(crate) trait BatchedCall: Send + Sized + 'static {
    type Answer: Send + 'static;
    /// Statements of this kind that run at once, slow ones not counted. At least one; a long queue allows two.
    const STATEMENTS: usize;

    /// The approximate bytes that the call adds to a statement or its answer.
    fn bytes(&self) -> usize;

    /// The effect of the call if the server ran it and no answer came.
    fn effect(&self) -> Effect;

    /// Sends the calls in one statement; a single call uses the statement for one key. Returns one answer a call, in
    /// order.
    fn send(state: Arc<State>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<Self::Answer>>>;
}

/// The queue and the running statements of one kind of call.
pub(crate) struct Batcher<C: BatchedCall> {
    state: Arc<State>,
    queue: Mutex<Queue<C>>,
}

struct Queue<C: BatchedCall> {
    /// The start of the statement in each slot; `None` for a free slot.
    slots: [Option<Instant>; MAX_STATEMENTS],
    /// Calls that found no free slot.
    calls: VecDeque<QueuedCall<C>>,
    /// The length at which dropped calls are removed: twice the calls that the last search left.
    purge_at: usize,
    /// True while the task of [`Batcher::poll_queue`] runs.
    is_polled: bool,
}

struct QueuedCall<C: BatchedCall> {
    call: C,
    reply: oneshot::Sender<Result<C::Answer>>,
    since: Instant,
}

impl<C: BatchedCall> QueuedCall<C> {
    /// True if the caller has dropped the call.
    fn is_dropped(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The index of a taken slot, and the calls to send.
type Batch<C> = (usize, Vec<QueuedCall<C>>);

impl<C: BatchedCall> Queue<C> {
    fn new() -> Self {
        Self { slots: [None; MAX_STATEMENTS], calls: VecDeque::new(), purge_at: MIN_PURGE, is_polled: false }
    }

    /// True if a running statement is slow.
    fn has_slow_statement(&self) -> bool {
        self.slots.iter().flatten().any(|since| since.elapsed() >= SLOW_AFTER)
    }

    /// Takes a slot for another statement, if one may run now.
    fn take_slot(&mut self) -> Option<usize> {
        let now = Instant::now();
        let fast = self.slots.iter().flatten().filter(|since| now.duration_since(**since) < SLOW_AFTER).count();
        let is_long = self.calls.len() >= LONG_QUEUE;
        if fast >= C::STATEMENTS.max(1 + usize::from(is_long)) {
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

    /// Queues a call. Now and then removes the calls that their callers have dropped.
    fn push(&mut self, queued: QueuedCall<C>) {
        if self.calls.len() >= self.purge_at {
            self.calls.retain(|queued| !queued.is_dropped());
            self.purge_at = self.calls.len().saturating_mul(2).max(MIN_PURGE);
        }
        self.calls.push_back(queued);
    }

    /// Takes the calls of the next statement, if any are queued and a slot is free. A call that was queued for longer
    /// than `timeout` is answered with an error and not sent. A dropped call is not sent either.
    fn next_batch(&mut self, timeout: Duration) -> Option<Batch<C>> {
        let is_over = |queued: &QueuedCall<C>| queued.is_dropped() || queued.since.elapsed() > timeout;
        while self.calls.front().is_some_and(is_over) {
            let Some(QueuedCall { call, reply, .. }) = self.calls.pop_front() else { break };
            let _ = reply.send(Err(Fault::Before(Cause::Timeout).into_error(call.effect())));
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

    /// Makes a call, alone or in a batch.
    pub(crate) async fn call(self: &Arc<Self>, call: C) -> Result<C::Answer> {
        let effect = call.effect();
        let answer = match self.admit(call) {
            Admission::Now(call, slot) => {
                let answer = C::send(Arc::clone(&self.state), vec![call]).await.pop();
                drop(slot);
                answer
            }
            Admission::Queued(answer) => answer.await.ok(),
        };
        answer.unwrap_or_else(|| Err(runtime_ended(effect)))
    }

    fn admit(self: &Arc<Self>, call: C) -> Admission<C> {
        let mut queue = self.queue();
        // Beside a slow statement, tasks send the calls: a caller that does not poll its call keeps a slot and a
        // connection, and several such callers would keep all of them.
        if !queue.has_slow_statement()
            && let Some(slot) = queue.take_slot()
        {
            return Admission::Now(call, SlotGuard::new(self, slot));
        }
        let (reply, answer) = oneshot::channel();
        queue.push(QueuedCall { call, reply, since: Instant::now() });
        SlotGuard::spawn(self, queue.next_batch(self.state.connections.timeout));
        if !std::mem::replace(&mut queue.is_polled, true) {
            self.state.runtime.spawn(Self::poll_queue(Arc::clone(self)));
        }
        Admission::Queued(answer)
    }

    /// Starts statements beside slow ones as long as calls are queued. The holders of the slots cannot do it: the
    /// caller of a slow statement may have stopped polling.
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
    /// A task sends the call in a batch and answers here.
    Queued(oneshot::Receiver<Result<C::Answer>>),
}

/// A taken slot. When it is dropped, the slot goes to the queued calls.
struct SlotGuard<C: BatchedCall> {
    batcher: Arc<Batcher<C>>,
    /// The index of the slot; `None` once it was freed.
    slot: Option<usize>,
}

impl<C: BatchedCall> SlotGuard<C> {
    fn new(batcher: &Arc<Batcher<C>>, slot: usize) -> Self {
        Self { batcher: Arc::clone(batcher), slot: Some(slot) }
    }

    /// Frees the slot, and takes one again if calls are queued.
    fn next_batch(&mut self) -> Option<Vec<QueuedCall<C>>> {
        let mut queue = self.batcher.queue();
        queue.free_slot(self.slot.take()?);
        let (slot, batch) = queue.next_batch(self.batcher.state.connections.timeout)?;
        self.slot = Some(slot);
        Some(batch)
    }

    /// Sends a batch, and further ones while calls are queued.
    async fn run(mut self, batch: Vec<QueuedCall<C>>) {
        let mut next = Some(batch);
        while let Some(batch) = next {
            let (calls, replies): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|queued| (queued.call, queued.reply)).unzip();
            let answered = calls.len();
            let answers = C::send(Arc::clone(&self.batcher.state), calls).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A caller that dropped its call needs no answer.
                let _ = reply.send(answer);
            }
            for _ in 0..MAX_YIELDS {
                tokio::task::yield_now().await;
                if self.batcher.queue().calls.len() >= answered {
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
        type Answer = ();
        const STATEMENTS: usize = 1;

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
        let (reply, answer) = oneshot::channel();
        queue.push(QueuedCall { call: Fake(bytes), reply, since: Instant::now() });
        answer
    }

    /// The number of calls in the next batch.
    fn next_len(queue: &mut Queue<Fake>) -> Option<usize> {
        queue.next_batch(TIMEOUT).map(|(_, batch)| batch.len())
    }

    #[tokio::test(start_paused = true)]
    async fn one_statement_runs_at_a_time_and_a_slow_one_makes_room_for_another() {
        let mut queue = Queue::new();
        let first = queue.take_slot().unwrap();
        let _answers = [enqueue(&mut queue, 1), enqueue(&mut queue, 1)];
        assert_eq!(next_len(&mut queue), None);
        queue.free_slot(first);
        assert_eq!(next_len(&mut queue), Some(2));
        for running in 1..MAX_STATEMENTS {
            let _answer = enqueue(&mut queue, 1);
            assert_eq!(next_len(&mut queue), None, "{running}");
            tokio::time::advance(SLOW_AFTER).await;
            assert!(queue.has_slow_statement());
            assert_eq!(next_len(&mut queue), Some(1), "{running}");
        }
        // Slow statements hold all slots.
        tokio::time::advance(SLOW_AFTER).await;
        let _answer = enqueue(&mut queue, 1);
        assert_eq!(next_len(&mut queue), None);
        queue.free_slot(2);
        assert_eq!(next_len(&mut queue), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_queue_allows_a_second_statement() {
        let mut queue = Queue::new();
        queue.take_slot().unwrap();
        let mut answers: Vec<_> = (1..LONG_QUEUE).map(|_| enqueue(&mut queue, 1)).collect();
        assert_eq!(next_len(&mut queue), None);
        answers.push(enqueue(&mut queue, 1));
        assert_eq!(next_len(&mut queue), Some(LONG_QUEUE));
        answers.extend((0..LONG_QUEUE).map(|_| enqueue(&mut queue, 1)));
        assert_eq!(next_len(&mut queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_bounded_and_a_call_that_is_too_large_goes_alone() {
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
        for _ in 0..100 * MIN_PURGE {
            drop(enqueue(&mut queue, 1));
        }
        assert!(queue.calls.len() <= MIN_PURGE + 1);
        let _kept = [enqueue(&mut queue, 1), enqueue(&mut queue, 1)];
        queue.free_slot(slot);
        assert_eq!(next_len(&mut queue), Some(2));
    }
}
