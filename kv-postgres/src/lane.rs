//! Concurrent single calls of one kind, put together into statements over many keys.
//!
//! A call that finds less than two statements under way is sent at once, alone, by its own caller. One that finds two waits and
//! goes with the next statement, together with all that wait. So nothing is delayed in the hope of company, no call joins a
//! statement that was sent already, and a busy store sends few, large statements.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::Result;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Cause, Effect, Fault};
use crate::home::lost;
use crate::state::Core;

/// How many statements of a kind are under way at most.
const FLIGHTS: usize = 2;
/// How many calls go into one statement at most, and how many bytes, unless one call alone has more.
const MOST_CALLS: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

/// A kind of call that can be put together with others of its kind.
pub(crate) trait Call: Send + Sized + 'static {
    type Answer: Send + 'static;

    /// The lane of this kind.
    fn lane(core: &Core) -> &Lane<Self>;

    /// About how much the call sends.
    fn bytes(&self) -> usize;

    /// What the call would have changed, where no answer comes.
    fn effect(&self) -> Effect;

    /// Sends the calls in one statement, or one call in the statement for one. One answer a call, in order.
    fn send(core: Arc<Core>, calls: Vec<Self>) -> BoxFuture<'static, Vec<Result<Self::Answer>>>;
}

pub(crate) struct Lane<C: Call> {
    state: Mutex<State<C>>,
}

struct State<C: Call> {
    flights: usize,
    /// Empty unless all flights are taken.
    waiting: VecDeque<Waiting<C>>,
}

struct Waiting<C: Call> {
    call: C,
    reply: oneshot::Sender<Result<C::Answer>>,
    since: Instant,
}

impl<C: Call> Lane<C> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { flights: 0, waiting: VecDeque::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls of the next statement; where none wait, the flight ends. One that has waited for longer than a statement may
    /// take is not sent any more.
    fn next(&self, limit: Duration) -> Option<Vec<Waiting<C>>> {
        let mut state = self.state();
        while state.waiting.front().is_some_and(|waiting| waiting.since.elapsed() > limit) {
            let Some(Waiting { call, reply, .. }) = state.waiting.pop_front() else { break };
            let _ = reply.send(Err(Fault::Before(Cause::Timeout).into_error(call.effect())));
        }
        if state.waiting.is_empty() {
            state.flights -= 1;
            return None;
        }
        let (mut batch, mut bytes) = (Vec::with_capacity(state.waiting.len().min(MOST_CALLS)), 0_usize);
        while let Some(waiting) = state.waiting.pop_front() {
            let size = waiting.call.bytes();
            if !batch.is_empty() && (batch.len() == MOST_CALLS || bytes.saturating_add(size) > MOST_BYTES) {
                state.waiting.push_front(waiting);
                break;
            }
            bytes = bytes.saturating_add(size);
            batch.push(waiting);
        }
        Some(batch)
    }
}

impl<C: Call> std::fmt::Debug for Lane<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Lane").field("flights", &state.flights).field("waiting", &state.waiting.len()).finish()
    }
}

/// Makes a call by its lane.
pub(crate) async fn call<C: Call>(core: &Arc<Core>, call: C) -> Result<C::Answer> {
    let effect = call.effect();
    let (call, waits) = {
        let mut state = C::lane(core).state();
        if state.flights < FLIGHTS {
            state.flights += 1;
            (Some(call), None)
        } else {
            let (reply, answer) = oneshot::channel();
            state.waiting.push_back(Waiting { call, reply, since: Instant::now() });
            (None, Some(answer))
        }
    };
    if let Some(answer) = waits {
        return answer.await.unwrap_or_else(|_| Err(lost(effect)));
    }
    let flight = Flight::<C> { core: Arc::clone(core), is_landed: false, kind: std::marker::PhantomData };
    let mut answers = C::send(Arc::clone(core), call.into_iter().collect()).await;
    drop(flight);
    answers.pop().unwrap_or_else(|| Err(lost(effect)))
}

/// The right to have a statement under way. It is passed on to those who wait, whatever becomes of who holds it.
struct Flight<C: Call> {
    core: Arc<Core>,
    is_landed: bool,
    kind: std::marker::PhantomData<fn() -> C>,
}

impl<C: Call> Flight<C> {
    /// Sends what waits, until nothing does.
    async fn carry(mut self, batch: Vec<Waiting<C>>) {
        let mut next = Some(batch);
        while let Some(batch) = next {
            let (calls, replies): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
            let answers = C::send(Arc::clone(&self.core), calls).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A caller that is gone needs no answer.
                let _ = reply.send(answer);
            }
            // Whoever got an answer and has a next call goes with the next statement, not alone behind it.
            tokio::task::yield_now().await;
            next = C::lane(&self.core).next(self.core.links.limit);
        }
        self.is_landed = true;
    }
}

impl<C: Call> Drop for Flight<C> {
    fn drop(&mut self) {
        if self.is_landed {
            return;
        }
        if let Some(batch) = C::lane(&self.core).next(self.core.links.limit) {
            let next = Self { core: Arc::clone(&self.core), is_landed: false, kind: std::marker::PhantomData };
            self.core.home.spawn(next.carry(batch));
        }
    }
}
