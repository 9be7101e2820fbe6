//! Clients that make random calls on a few keys and record each call with its answer and time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, Expires, Expiry, IncrementOptions, Key, KvStore,
    NewExpiry, SetOptions, SetOutcome, Version, When,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Barrier;

use super::atomic::check_atomicity;
use super::check::check;
use super::model::{Answer, Call, Condition, History, Lifetime, Moment, Operation, Value};
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
    /// True if clients also make calls of every other kind that the store supports: takes, touches, increments, batches
    /// and transactions.
    pub(crate) every_call: bool,
}

impl Workload {
    /// The keys are few, so that several clients use the same key.
    pub(super) const KEYS: [&'static str; 3] = ["one", "two", "three"];

    /// The key of this name. All keys belong to one group of transactions.
    pub(super) fn key(self, name: &'static str) -> Key {
        if self.every_call { key(["h", "h", "h", "h", name]) } else { key([name]) }
    }

    /// Ten clients that get, set and delete.
    pub(crate) const PLAIN: Self =
        Self { clients: 10, calls: 200, conditions: false, expiry: false, every_call: false };

    /// Clients that make calls of every kind. There are fewer clients, because more kinds of calls leave more orders to
    /// check.
    pub(crate) const EVERY_CALL: Self = Self { clients: 6, every_call: true, ..Self::PLAIN };

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
            let (seen, history) = (HashMap::new(), History::default());
            let client = Client { index, workload, cx, store, ticks, rng, written: 0, seen, history };
            client.work(&round).await
        }
    })
    .await?;
    let mut merged = History::default();
    for history in histories {
        for (name, operations) in history.keys {
            merged.keys.entry(name).or_default().extend(operations);
        }
        merged.transactions.extend(history.transactions);
    }
    for (name, history) in &merged.keys {
        check(history).map_err(|unexplained| Failure::new(format!("key `{name}`: {unexplained}")))?;
    }
    check_atomicity(&merged).map_err(Failure::new)
}

pub(super) struct Client {
    pub(super) index: usize,
    pub(super) workload: Workload,
    pub(super) cx: Context,
    pub(super) store: Recorder,
    ticks: Arc<AtomicU64>,
    pub(super) rng: StdRng,
    /// The number of values that this client has written.
    written: usize,
    /// For each key, the entry that this client saw last.
    pub(super) seen: HashMap<&'static str, (Value, Option<Version>)>,
    pub(super) history: History,
}

impl Client {
    /// The number of calls of a client in one round.
    const CALLS_PER_ROUND: usize = 25;
    /// The pause of a client after a failed call.
    const RETRY_PAUSE: Duration = Duration::from_millis(40);

    /// Makes the calls in rounds, which all clients begin together. Otherwise the clients of a fast handle could end
    /// before the clients of a slow handle begin, and a store that is not shared would pass.
    async fn work(mut self, round: &Barrier) -> Result<History, Failure> {
        let workload = self.workload;
        // Connects before the first round. The error is ignored, because the calls of the rounds report an unreachable
        // backend.
        let _ = self.store.ping().await;
        for call in 0..workload.calls {
            if call % Self::CALLS_PER_ROUND == 0 {
                round.wait().await;
            }
            if workload.every_call && self.rng.random_bool(0.25) {
                self.call_several().await?;
            } else {
                let index = self.rng.random_range(0..Workload::KEYS.len());
                let Some(&name) = Workload::KEYS.get(index) else { continue };
                let call = self.choose(name);
                self.call(name, call).await?;
            }
            if workload.expiry && self.rng.random_bool(0.1) {
                self.cx.advance(Duration::from_millis(self.rng.random_range(1..4))).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ok(self.history)
    }

    fn choose(&mut self, name: &'static str) -> Call {
        let Workload { expiry, every_call, .. } = self.workload;
        let condition = self.condition(name);
        let previous = every_call && self.cx.has(Capability::Previous) && self.rng.random_bool(0.5);
        match self.rng.random_range(0..if every_call { 16 } else { 10 }) {
            0..=3 => Call::Get,
            4..=8 => self.write(condition, previous),
            10..=12 if self.cx.has(Capability::Touch) => {
                let ttl = if expiry { self.ttl() } else { Duration::from_secs(3_600) };
                Call::Touch { ttl: self.rng.random_bool(0.8).then_some(ttl) }
            }
            13..=14 if self.cx.has(Capability::Counters) => {
                self.written += 1;
                // The sums of such amounts show which increments they include.
                let amount = self.index * 1_000_000 + self.written;
                Call::Increment { by: i64::try_from(amount).unwrap_or(1) }
            }
            _ => Call::Delete { condition, previous },
        }
    }

    /// A write of a new value.
    pub(super) fn write(&mut self, condition: Condition, previous: bool) -> Call {
        let Workload { expiry, every_call, .. } = self.workload;
        self.written += 1;
        let value = Value { client: self.index, number: self.written };
        let lifetime = if every_call && self.rng.random_bool(0.4) {
            Lifetime::Keep
        } else if expiry && self.rng.random_bool(0.7) {
            Lifetime::After(self.ttl())
        } else {
            Lifetime::Never
        };
        Call::Set { value, condition, lifetime, previous }
    }

    fn ttl(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(1..10))
    }

    pub(super) fn condition(&mut self, name: &'static str) -> Condition {
        match self.rng.random_range(0..6) {
            _ if !self.workload.conditions => Condition::Always,
            0 => Condition::Always,
            1 => Condition::Absent,
            2 => Condition::Present,
            _ => self.seen.get(name).map_or(Condition::Absent, |&(value, _)| Condition::Value(value)),
        }
    }

    /// Makes the call and records it. A call that certainly had no effect is not recorded.
    async fn call(&mut self, name: &'static str, call: Call) -> Verdict {
        let key = self.workload.key(name);
        let called = self.moment(Edge::Call);
        let result = self.perform(name, &key, call).await;
        self.record(called, name, call, result).await
    }

    /// Records a call that ends now.
    pub(super) async fn record(
        &mut self,
        called: Moment,
        name: &'static str,
        call: Call,
        result: Result<Result<Answer, Failure>, Error>,
    ) -> Verdict {
        let returned = match result {
            Ok(answer) => Some((self.moment(Edge::Return), answer?)),
            Err(error) => {
                if !self.may_have_happened(error).await? {
                    return Ok(());
                }
                None
            }
        };
        let operation = Operation { client: self.index, call, called, returned };
        self.history.keys.entry(name).or_default().push(operation);
        Ok(())
    }

    /// Records a call that may have happened.
    pub(super) fn record_unanswered(&mut self, called: Moment, name: &'static str, call: Call) {
        let operation = Operation { client: self.index, call, called, returned: None };
        self.history.keys.entry(name).or_default().push(operation);
    }

    /// Pauses after a failed call. While the backend is unreachable, every call fails, and each failed write adds an
    /// operation that the check must treat as possible until the end of the history. The pause limits the number of
    /// such operations. Returns true if the call may have happened. Fails if an outage does not cause such an error.
    pub(super) async fn may_have_happened(&self, error: Error) -> Result<bool, Failure> {
        if !error.maybe_applied() && !error.is_retryable() {
            return Err(error.into());
        }
        self.cx.wait(Self::RETRY_PAUSE).await;
        Ok(error.maybe_applied())
    }

    async fn perform(&mut self, name: &'static str, key: &Key, call: Call) -> Result<Result<Answer, Failure>, Error> {
        Ok(match call {
            Call::Get => {
                let entry = self.store.get(key).await?;
                self.found(name, entry)
            }
            Call::Set { value, condition, lifetime, previous } => {
                let mut options =
                    SetOptions::default().with_when(self.when(name, condition)).with_expiry(lifetime.into());
                options.return_previous = previous;
                let outcome = self.store.set(key, value.to_string().into(), &options).await?;
                self.set_outcome(name, value, previous, outcome)
            }
            Call::Delete { condition, previous } => {
                let mut options = DeleteOptions::default().with_when(self.when(name, condition));
                options.return_previous = previous;
                let outcome = self.store.delete(key, &options).await?;
                self.delete_outcome(name, previous, outcome)
            }
            Call::Touch { ttl } => {
                let expiry = ttl.map_or(NewExpiry::Never, NewExpiry::After);
                Ok(Answer::Touched(self.store.touch(key, expiry).await?))
            }
            Call::Increment { by } => match self.store.increment(key, by, &IncrementOptions::default()).await {
                Ok(sum) => Ok(Answer::Sum(sum)),
                Err(error) if matches!(error.kind(), ErrorKind::Invalid) => Ok(Answer::Invalid),
                Err(error) => return Err(error),
            },
            Call::Check { .. } => Err(Failure::new("a check is part of a transaction")),
        })
    }

    pub(super) fn found(&mut self, name: &'static str, entry: Option<Entry>) -> Result<Answer, Failure> {
        let value = self.remember(name, entry.as_ref())?;
        Ok(match (value, entry.map(|entry| entry.expires)) {
            (Some(value), Some(Expires::At(deadline))) => Answer::FoundUntil(value, Some(deadline)),
            (Some(value), Some(Expires::Never)) => Answer::FoundUntil(value, None),
            (value, _) => Answer::Found(value),
        })
    }

    pub(super) fn set_outcome(
        &mut self,
        name: &'static str,
        value: Value,
        previous: bool,
        outcome: SetOutcome,
    ) -> Result<Answer, Failure> {
        match outcome {
            SetOutcome::Stored { version, previous: replaced } => {
                let replaced = self.remember(name, replaced.as_ref())?;
                self.seen.insert(name, (value, version));
                Ok(if previous { Answer::Replaced(replaced) } else { Answer::Stored })
            }
            SetOutcome::Refused { current } => self.remember(name, current.as_ref()).map(Answer::Refused),
        }
    }

    pub(super) fn delete_outcome(
        &mut self,
        name: &'static str,
        previous: bool,
        outcome: DeleteOutcome,
    ) -> Result<Answer, Failure> {
        match outcome {
            DeleteOutcome::Deleted { previous: removed } if previous => {
                let removed = self.remember(name, removed.as_ref())?;
                let removed = removed.ok_or_else(|| Failure::new("`delete` removed an entry and did not return it"));
                removed.map(Answer::Took)
            }
            DeleteOutcome::Deleted { .. } => Ok(Answer::Deleted),
            DeleteOutcome::Missing => Ok(Answer::Missing),
            DeleteOutcome::Refused { current } => self.remember(name, current.as_ref()).map(Answer::Refused),
        }
    }

    /// Converts the condition to a [`When`]. A condition on the last seen value becomes, at random, a condition on the
    /// version of that value.
    pub(super) fn when(&mut self, name: &'static str, condition: Condition) -> When {
        match condition {
            Condition::Always => When::Always,
            Condition::Absent => When::Absent,
            Condition::Present => When::Present,
            Condition::Value(value) => match self.seen.get(name) {
                Some(&(seen, Some(version)))
                    if seen == value && self.cx.has(Capability::Versions) && self.rng.random_bool(0.5) =>
                {
                    When::Version(version)
                }
                _ => When::Value(value.to_string().into()),
            },
        }
    }

    /// Parses a value that some client wrote, and remembers the value as seen.
    fn remember(&mut self, name: &'static str, entry: Option<&Entry>) -> Result<Option<Value>, Failure> {
        let Some(entry) = entry else { return Ok(None) };
        let value = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
        let value: Value = value.ok_or_else(|| {
            Failure::new(format!("the store returned the value {:?}, which no client wrote", entry.value))
        })?;
        self.seen.insert(name, (value, entry.version));
        Ok(Some(value))
    }

    /// Returns the current tick and time at an edge of a call. The interval between the two ticks contains the call,
    /// and the interval between the two times contains the interval of the ticks. Wider intervals only allow more
    /// orders, so a correct history is never rejected.
    pub(super) fn moment(&self, edge: Edge) -> Moment {
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

impl From<Lifetime> for Expiry {
    fn from(lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Never => Self::Never,
            Lifetime::Keep => Self::Keep,
            Lifetime::After(ttl) => Self::After(ttl),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    Call,
    Return,
}
