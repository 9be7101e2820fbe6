//! Clients that make random calls on a few keys and record each call with its answer and time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, Entry, Error, Expiry, Key, KvStore, SetOptions, SetOutcome, Version, When,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Barrier;

use super::check::check;
use super::model::{Answer, Call, Condition, Moment, Operation, Value};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict};
use crate::recorder::Recorder;
use crate::tasks::clients;

/// The work of the clients. Each client makes one call at a time, so at most as many operations of a key are open as
/// there are clients, in addition to the writes without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) clients: usize,
    /// The number of calls of each client.
    pub(crate) calls: usize,
    /// True if writes and deletes also have conditions.
    pub(crate) conditions: bool,
    /// True if writes also have short times to live, and time passes.
    pub(crate) expiry: bool,
}

impl Workload {
    /// Few keys, so that clients use the same ones.
    const KEYS: [&'static str; 3] = ["one", "two", "three"];

    /// Ten clients that get, set and delete.
    pub(crate) const PLAIN: Self = Self { clients: 10, calls: 200, conditions: false, expiry: false };

    /// Adds conditions to sets and deletes.
    #[must_use]
    pub(crate) fn with_conditions(self) -> Self {
        Self { conditions: true, ..self }
    }

    /// Adds times to live of a few milliseconds to sets.
    #[must_use]
    pub(crate) fn with_expiry(self) -> Self {
        Self { expiry: true, ..self }
    }
}

/// Runs the clients on these handles of one store, assigned in turn. Fails unless the history of each key is
/// linearizable.
pub(crate) async fn linearizable(cx: &Context, handles: &[Recorder], workload: Workload) -> Verdict {
    let ticks = Arc::new(AtomicU64::new(0));
    let handles: Vec<Recorder> = handles.iter().cycle().take(workload.clients).cloned().collect();
    let round = Arc::new(Barrier::new(workload.clients));
    let histories = clients(cx, workload.clients, |cx, index| {
        let (handle, ticks, round) = (handles.get(index).cloned(), Arc::clone(&ticks), Arc::clone(&round));
        async move {
            let store = handle.unwrap_or_else(|| cx.store().clone());
            let rng = StdRng::seed_from_u64(cx.seed() ^ (index as u64) << 32);
            let client =
                Client { index, cx, store, ticks, rng, written: 0, seen: HashMap::new(), history: HashMap::new() };
            client.work(workload, &round).await
        }
    })
    .await?;
    for segment in Workload::KEYS {
        let history: Vec<Operation> =
            histories.iter().filter_map(|history| history.get(segment)).flatten().cloned().collect();
        check(&history).map_err(|violation| Failure::new(format!("key `{segment}`: {violation}")))?;
    }
    Ok(())
}

struct Client {
    index: usize,
    cx: Context,
    store: Recorder,
    ticks: Arc<AtomicU64>,
    rng: StdRng,
    /// The number of values that this client has written.
    written: usize,
    /// For each key, the entry that this client saw last.
    seen: HashMap<&'static str, (Value, Option<Version>)>,
    history: HashMap<&'static str, Vec<Operation>>,
}

impl Client {
    /// The number of calls of a client in one round.
    const CALLS_PER_ROUND: usize = 25;
    /// The pause of a client after a failed call.
    const RETRY_PAUSE: Duration = Duration::from_millis(40);

    /// Makes the calls in rounds, which all clients begin together. Otherwise the clients of a fast handle could end
    /// before those of a slow handle begin, and a store that is not shared would pass.
    async fn work(
        mut self,
        workload: Workload,
        round: &Barrier,
    ) -> Result<HashMap<&'static str, Vec<Operation>>, Failure> {
        // Connects before the first round. The error is ignored, because the calls of the rounds report an unreachable
        // backend.
        let _ = self.store.ping().await;
        for call in 0..workload.calls {
            if call % Self::CALLS_PER_ROUND == 0 {
                round.wait().await;
            }
            let index = self.rng.random_range(0..Workload::KEYS.len());
            let Some(&segment) = Workload::KEYS.get(index) else { continue };
            let call = self.choose(segment, workload);
            self.call(segment, call).await?;
            if workload.expiry && self.rng.random_bool(0.1) {
                self.cx.advance(Duration::from_millis(self.rng.random_range(1..4))).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ok(self.history)
    }

    fn choose(&mut self, segment: &'static str, workload: Workload) -> Call {
        let ttl =
            (workload.expiry && self.rng.random_bool(0.7)).then(|| Duration::from_millis(self.rng.random_range(1..10)));
        let condition = match self.rng.random_range(0..6) {
            _ if !workload.conditions => Condition::Always,
            0 => Condition::Always,
            1 => Condition::Absent,
            2 => Condition::Present,
            _ => self.seen.get(segment).map_or(Condition::Absent, |&(value, _)| Condition::Value(value)),
        };
        match self.rng.random_range(0..10) {
            0..4 => Call::Get,
            4..9 => {
                self.written += 1;
                Call::Set { value: Value { client: self.index, number: self.written }, condition, ttl }
            }
            _ => Call::Delete { condition },
        }
    }

    /// Makes the call and records it. A call that certainly had no effect is not recorded.
    async fn call(&mut self, segment: &'static str, call: Call) -> Verdict {
        let key = key([segment]);
        let called = self.moment(Edge::Call);
        let answer = self.perform(segment, &key, call).await;
        let returned = match answer {
            Ok(answer) => Some((self.moment(Edge::Return), answer?)),
            // Pauses, because while the backend is unreachable every call fails like this, and each such write adds an
            // operation that the check must treat as possible until the end of the history.
            Err(error) if error.maybe_applied() => {
                self.cx.wait(Self::RETRY_PAUSE).await;
                None
            }
            Err(error) if error.is_retryable() => {
                self.cx.wait(Self::RETRY_PAUSE).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.history.entry(segment).or_default().push(Operation { client: self.index, call, called, returned });
        Ok(())
    }

    async fn perform(
        &mut self,
        segment: &'static str,
        key: &Key,
        call: Call,
    ) -> Result<Result<Answer, Failure>, Error> {
        Ok(match call {
            Call::Get => {
                let entry = self.store.get(key).await?;
                self.remember(segment, entry.as_ref()).map(Answer::Found)
            }
            Call::Set { value, condition, ttl } => {
                let expiry = ttl.map_or(Expiry::Never, Expiry::After);
                let options = SetOptions::default().with_when(self.when(segment, condition)).with_expiry(expiry);
                match self.store.set(key, value.to_string().into(), &options).await? {
                    SetOutcome::Stored { version, .. } => {
                        self.seen.insert(segment, (value, version));
                        Ok(Answer::Stored)
                    }
                    SetOutcome::Refused { current } => self.remember(segment, current.as_ref()).map(Answer::Refused),
                }
            }
            Call::Delete { condition } => {
                let options = DeleteOptions::default().with_when(self.when(segment, condition));
                match self.store.delete(key, &options).await? {
                    DeleteOutcome::Deleted { .. } => Ok(Answer::Deleted),
                    DeleteOutcome::Missing => Ok(Answer::Missing),
                    DeleteOutcome::Refused { current } => self.remember(segment, current.as_ref()).map(Answer::Refused),
                }
            }
        })
    }

    /// Converts the condition to a [`When`]. A condition on the last seen value becomes, at random, one on its version.
    fn when(&mut self, segment: &'static str, condition: Condition) -> When {
        match condition {
            Condition::Always => When::Always,
            Condition::Absent => When::Absent,
            Condition::Present => When::Present,
            Condition::Value(value) => match self.seen.get(segment) {
                Some(&(seen, Some(version)))
                    if seen == value && self.cx.has(Capability::Versions) && self.rng.random_bool(0.5) =>
                {
                    When::Version(version)
                }
                _ => When::Value(value.to_string().into()),
            },
        }
    }

    /// Parses a value that some client wrote, and remembers it as seen.
    fn remember(&mut self, segment: &'static str, entry: Option<&Entry>) -> Result<Option<Value>, Failure> {
        let Some(entry) = entry else { return Ok(None) };
        let value = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
        let value: Value = value.ok_or_else(|| {
            Failure::new(format!("the store returned the value {:?}, which no client wrote", entry.value))
        })?;
        self.seen.insert(segment, (value, entry.version));
        Ok(Some(value))
    }

    /// Returns the current moment. The recorded interval contains the call, and the times contain the ticks. A wider
    /// interval only allows more orders, so a correct history is never rejected.
    fn moment(&self, edge: Edge) -> Moment {
        // The tolerance of clause T-2, plus one millisecond because deadlines are rounded up.
        let slack = if self.cx.moves_clock() { Duration::ZERO } else { Duration::from_millis(6) };
        match edge {
            Edge::Call => {
                let time = self.cx.now() - slack;
                Moment { tick: self.ticks.fetch_add(1, Ordering::SeqCst), time }
            }
            Edge::Return => {
                let tick = self.ticks.fetch_add(1, Ordering::SeqCst);
                Moment { tick, time: self.cx.now() + slack }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Edge {
    Call,
    Return,
}
