//! Concurrent single calls of one kind, put together into statements over many keys.
//!
//! A call that finds room in the lane is sent at once, alone, by its own caller. One that finds none waits and goes with the
//! next statement, together with all that wait. So nothing is delayed in the hope of company, no call joins a statement that was
//! sent already, and a busy store sends few, large statements.
//!
//! A statement that takes long makes room for another: it may wait for a row that somebody has locked, or its caller may be a
//! future that nobody polls. Neither stops the calls behind it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::{Clock, Result, SystemClock};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Cause, Effect, Fault};
use crate::home::lost;
use crate::state::Core;

/// How many statements of a kind are under way at most, late ones included.
const MAX_FLIGHTS: usize = 4;
/// From when on a statement is late: longer than a good disk takes. With a slower one, or a server far away, more of them are
/// under way.
const PATIENCE: Duration = Duration::from_millis(3);
/// So many calls that wait give the processors of the server more to do than the disk: they are worth a second statement.
const CROWD: usize = 64;
/// How often a flight gives way to those whom it answered, which go with the next statement as far as they have a next call.
const TURNS: usize = 4;
/// How many calls go into one statement at most, and how many bytes, unless one call alone has more.
const MAX_CALLS: usize = 1_000;
const MAX_BYTES: usize = 4 << 20;

/// A kind of call that can be put together with others of its kind.
pub(crate) trait Call: Send + Sized + 'static {
    type Answer: Send + 'static;
    /// How many statements of the kind are under way that are not late, one at least. A crowd is worth two.
    const FLIGHTS: usize;

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
    /// Since when the statement of each flight is under way.
    flights: [Option<Instant>; MAX_FLIGHTS],
    /// Empty unless there was no room for a flight.
    waiting: VecDeque<Waiting<C>>,
    /// Whether a task looks after those that wait.
    is_watched: bool,
}

struct Waiting<C: Call> {
    call: C,
    reply: oneshot::Sender<Result<C::Answer>>,
    since: Instant,
}

/// A place among the flights, and the calls to be sent.
type Batch<C> = (usize, Vec<Waiting<C>>);

impl<C: Call> Lane<C> {
    pub(crate) fn new() -> Self {
        let state = State { flights: [None; MAX_FLIGHTS], waiting: VecDeque::new(), is_watched: false };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Call> State<C> {
    /// Whether a flight is late.
    fn is_late(&self) -> bool {
        self.flights.iter().flatten().any(|since| since.elapsed() >= PATIENCE)
    }

    /// The place of another flight, where there is room for one.
    fn take_off(&mut self) -> Option<usize> {
        let now = Instant::now();
        let in_time = self.flights.iter().flatten().filter(|since| now.duration_since(**since) < PATIENCE).count();
        let is_crowded = self.waiting.len() >= CROWD;
        if in_time >= C::FLIGHTS.max(1 + usize::from(is_crowded)) {
            return None;
        }
        let (place, flight) = self.flights.iter_mut().enumerate().find(|(_, flight)| flight.is_none())?;
        *flight = Some(now);
        Some(place)
    }

    fn land(&mut self, place: usize) {
        if let Some(flight) = self.flights.get_mut(place) {
            *flight = None;
        }
    }

    /// The calls of the next statement, where any wait and there is room for it. One that has waited for longer than a statement
    /// may take is not sent any more.
    fn next(&mut self, limit: Duration) -> Option<Batch<C>> {
        while self.waiting.front().is_some_and(|waiting| waiting.since.elapsed() > limit) {
            let Some(Waiting { call, reply, .. }) = self.waiting.pop_front() else { break };
            let _ = reply.send(Err(Fault::Before(Cause::Timeout).into_error(call.effect())));
        }
        if self.waiting.is_empty() {
            return None;
        }
        let place = self.take_off()?;
        let (mut batch, mut bytes) = (Vec::with_capacity(self.waiting.len().min(MAX_CALLS)), 0_usize);
        while let Some(waiting) = self.waiting.pop_front() {
            let size = waiting.call.bytes();
            if !batch.is_empty() && (batch.len() == MAX_CALLS || bytes.saturating_add(size) > MAX_BYTES) {
                self.waiting.push_front(waiting);
                break;
            }
            bytes = bytes.saturating_add(size);
            batch.push(waiting);
        }
        Some((place, batch))
    }
}

impl<C: Call> std::fmt::Debug for Lane<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let flights = state.flights.iter().flatten().count();
        f.debug_struct("Lane").field("flights", &flights).field("waiting", &state.waiting.len()).finish()
    }
}

/// Makes a call by its lane.
pub(crate) async fn call<C: Call>(core: &Arc<Core>, call: C) -> Result<C::Answer> {
    let effect = call.effect();
    let answer = match enter(core, call) {
        Turn::Now(call, flight) => {
            let answer = C::send(Arc::clone(core), vec![call]).await.pop();
            drop(flight);
            answer
        }
        Turn::Later(answer) => answer.await.ok(),
    };
    answer.unwrap_or_else(|| Err(lost(effect)))
}

enum Turn<C: Call> {
    /// The call is sent by who makes it.
    Now(C, Flight<C>),
    /// Somebody sends it, and the answer comes here.
    Later(oneshot::Receiver<Result<C::Answer>>),
}

fn enter<C: Call>(core: &Arc<Core>, call: C) -> Turn<C> {
    let mut state = C::lane(core).state();
    // Behind a late one a task takes over: a caller that leaves its call alone keeps a connection, and more of them all.
    if !state.is_late()
        && let Some(place) = state.take_off()
    {
        return Turn::Now(call, Flight::new(core, place));
    }
    let (reply, answer) = oneshot::channel();
    state.waiting.push_back(Waiting { call, reply, since: Instant::now() });
    Flight::pass_on(core, state.next(core.links.limit));
    if !std::mem::replace(&mut state.is_watched, true) {
        core.home.spawn(watch::<C>(Arc::clone(core)));
    }
    Turn::Later(answer)
}

/// As long as calls wait, lets them take off when all that is under way is late. The flights cannot: who drives one may stand
/// still.
async fn watch<C: Call>(core: Arc<Core>) {
    let mut is_watched = true;
    while is_watched {
        SystemClock.sleep(PATIENCE).await;
        let batch = {
            let mut state = C::lane(&core).state();
            let batch = state.next(core.links.limit);
            is_watched = !state.waiting.is_empty();
            state.is_watched = is_watched;
            batch
        };
        Flight::pass_on(&core, batch);
    }
}

/// The right to have a statement under way. It is passed on to those who wait, whatever becomes of who holds it.
struct Flight<C: Call> {
    core: Arc<Core>,
    /// Where it stands among the flights; nowhere, once it has landed.
    place: Option<usize>,
    kind: PhantomData<fn() -> C>,
}

impl<C: Call> Flight<C> {
    fn new(core: &Arc<Core>, place: usize) -> Self {
        Self { core: Arc::clone(core), place: Some(place), kind: PhantomData }
    }

    /// Lands, and takes off again where calls wait that nobody else carries.
    fn next(&mut self) -> Option<Vec<Waiting<C>>> {
        let mut state = C::lane(&self.core).state();
        state.land(self.place.take()?);
        let (place, batch) = state.next(self.core.links.limit)?;
        self.place = Some(place);
        Some(batch)
    }

    /// Sends what waits, until nothing does.
    async fn carry(mut self, batch: Vec<Waiting<C>>) {
        let mut next = Some(batch);
        while let Some(batch) = next {
            let (calls, replies): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
            let answered = calls.len();
            let answers = C::send(Arc::clone(&self.core), calls).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A caller that is gone needs no answer.
                let _ = reply.send(answer);
            }
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
                if C::lane(&self.core).state().waiting.len() >= answered {
                    break;
                }
            }
            next = self.next();
        }
    }

    /// Another flight, where there is something to carry.
    fn pass_on(core: &Arc<Core>, batch: Option<Batch<C>>) {
        if let Some((place, batch)) = batch {
            core.home.spawn(Self::new(core, place).carry(batch));
        }
    }
}

impl<C: Call> Drop for Flight<C> {
    fn drop(&mut self) {
        let batch = self.next();
        Self::pass_on(&self.core, self.place.take().zip(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call of so many bytes.
    struct Fake(usize);

    impl Call for Fake {
        type Answer = ();
        const FLIGHTS: usize = 1;

        fn lane(_: &Core) -> &Lane<Self> {
            unreachable!("nothing is sent here")
        }

        fn bytes(&self) -> usize {
            self.0
        }

        fn effect(&self) -> Effect {
            Effect::None
        }

        fn send(_: Arc<Core>, _: Vec<Self>) -> BoxFuture<'static, Vec<Result<()>>> {
            unreachable!("nothing is sent here")
        }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    fn state() -> State<Fake> {
        State { flights: [None; MAX_FLIGHTS], waiting: VecDeque::new(), is_watched: false }
    }

    fn wait(state: &mut State<Fake>, bytes: usize) -> oneshot::Receiver<Result<()>> {
        let (reply, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { call: Fake(bytes), reply, since: Instant::now() });
        answer
    }

    fn sent(state: &mut State<Fake>) -> Option<usize> {
        state.next(LIMIT).map(|(_, batch)| batch.len())
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_under_way_and_a_late_one_makes_room_for_another() {
        let mut state = state();
        let first = state.take_off().unwrap();
        let _answers = [wait(&mut state, 1), wait(&mut state, 1)];
        assert_eq!(sent(&mut state), None);
        state.land(first);
        assert_eq!(sent(&mut state), Some(2));
        for at in 1..MAX_FLIGHTS {
            let _answer = wait(&mut state, 1);
            assert_eq!(sent(&mut state), None, "{at}");
            tokio::time::advance(PATIENCE).await;
            assert!(state.is_late());
            assert_eq!(sent(&mut state), Some(1), "{at}");
        }
        // All places are taken by what is late.
        tokio::time::advance(PATIENCE).await;
        let _answer = wait(&mut state, 1);
        assert_eq!(sent(&mut state), None);
        state.land(2);
        assert_eq!(sent(&mut state), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_worth_a_second_one() {
        let mut state = state();
        state.take_off().unwrap();
        let mut answers: Vec<_> = (1..CROWD).map(|_| wait(&mut state, 1)).collect();
        assert_eq!(sent(&mut state), None);
        answers.push(wait(&mut state, 1));
        assert_eq!(sent(&mut state), Some(CROWD));
        answers.extend((0..CROWD).map(|_| wait(&mut state, 1)));
        assert_eq!(sent(&mut state), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_takes_what_fits_and_one_that_is_too_large_goes_alone() {
        let mut state = state();
        let most = 2 * MAX_BYTES;
        let _large: Vec<_> = [most, 1, MAX_BYTES - 1, 1].into_iter().map(|bytes| wait(&mut state, bytes)).collect();
        for calls in [1, 2, 1] {
            assert_eq!(sent(&mut state), Some(calls));
            (0..MAX_FLIGHTS).for_each(|place| state.land(place));
        }
        let _many: Vec<_> = (0..=MAX_CALLS).map(|_| wait(&mut state, 1)).collect();
        assert_eq!(sent(&mut state), Some(MAX_CALLS));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_too_long_is_told_that_nothing_happened() {
        let mut state = state();
        let mut early = wait(&mut state, 1);
        tokio::time::advance(LIMIT + Duration::from_millis(1)).await;
        let mut late = wait(&mut state, 1);
        assert_eq!(sent(&mut state), Some(1));
        assert_eq!(early.try_recv().unwrap().unwrap_err().kind(), kv_core::ErrorKind::Unavailable);
        assert!(late.try_recv().is_err());
    }
}
