//! Clients that do this and that to a few keys, and write down when and with what answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, Entry, Error, Expiry, Key, KvStore, SetOptions, SetOutcome, Version, When,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::check::check;
use super::model::{Answer, Call, Moment, Operation, Over, Value};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict};
use crate::recorder::Recorder;
use crate::tasks::clients;

/// What the clients do. At most one call a client is open, so at most as many a key as there are clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) clients: usize,
    /// How many calls each client makes.
    pub(crate) calls: usize,
    /// Whether writes and deletes come with conditions, too.
    pub(crate) conditions: bool,
    /// Whether writes come with short times to live, and time passes.
    pub(crate) expiry: bool,
}

impl Workload {
    /// Few keys, so that clients meet.
    const KEYS: [&'static str; 3] = ["one", "two", "three"];

    /// Ten clients that get, set and delete.
    pub(crate) const PLAIN: Self = Self { clients: 10, calls: 200, conditions: false, expiry: false };

    /// And set and delete under conditions.
    #[must_use]
    pub(crate) fn with_conditions(self) -> Self {
        Self { conditions: true, ..self }
    }

    /// And set for a few milliseconds.
    #[must_use]
    pub(crate) fn with_expiry(self) -> Self {
        Self { expiry: true, ..self }
    }
}

/// Lets clients work on these handles of one store, in turn, and fails unless each key's history is linearizable.
pub(crate) async fn linearizable(cx: &Context, handles: &[Recorder], workload: Workload) -> Verdict {
    let ticks = Arc::new(AtomicU64::new(0));
    let handles: Vec<Recorder> = handles.iter().cycle().take(workload.clients).cloned().collect();
    let histories = clients(cx, workload.clients, |cx, name| {
        let (handle, ticks) = (handles.get(name).cloned(), Arc::clone(&ticks));
        async move {
            let store = handle.unwrap_or_else(|| cx.store().clone());
            let rng = StdRng::seed_from_u64(cx.seed() ^ (name as u64) << 32);
            let client =
                Client { name, cx, store, ticks, rng, written: 0, seen: HashMap::new(), history: HashMap::new() };
            client.work(workload).await
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
    name: usize,
    cx: Context,
    store: Recorder,
    ticks: Arc<AtomicU64>,
    rng: StdRng,
    /// How many values it has written.
    written: usize,
    /// The entry of each key that it saw last.
    seen: HashMap<&'static str, (Value, Option<Version>)>,
    history: HashMap<&'static str, Vec<Operation>>,
}

impl Client {
    /// How long a client waits after a call that failed.
    const BREATH: Duration = Duration::from_millis(40);

    async fn work(mut self, workload: Workload) -> Result<HashMap<&'static str, Vec<Operation>>, Failure> {
        for _ in 0..workload.calls {
            let place = self.rng.random_range(0..Workload::KEYS.len());
            let Some(&segment) = Workload::KEYS.get(place) else { continue };
            let call = self.choose(segment, workload);
            self.call(segment, call).await?;
            if workload.expiry && self.rng.random_bool(0.1) {
                self.cx.pass(Duration::from_millis(self.rng.random_range(1..4))).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        Ok(self.history)
    }

    fn choose(&mut self, segment: &'static str, workload: Workload) -> Call {
        let ttl =
            (workload.expiry && self.rng.random_bool(0.7)).then(|| Duration::from_millis(self.rng.random_range(1..10)));
        let over = match self.rng.random_range(0..6) {
            _ if !workload.conditions => Over::Anything,
            0 => Over::Anything,
            1 => Over::Nothing,
            2 => Over::Something,
            _ => self.seen.get(segment).map_or(Over::Nothing, |&(value, _)| Over::This(value)),
        };
        match self.rng.random_range(0..10) {
            0..4 => Call::Get,
            4..9 => {
                self.written += 1;
                Call::Set { value: Value { client: self.name, number: self.written }, over, ttl }
            }
            _ => Call::Delete { over },
        }
    }

    /// Makes the call and writes it down; what certainly did not happen is left out.
    async fn call(&mut self, segment: &'static str, call: Call) -> Verdict {
        let key = key([segment]);
        let called = self.moment(Edge::Call);
        let answer = self.perform(segment, &key, call).await;
        let returned = match answer {
            Ok(answer) => Some((self.moment(Edge::Return), answer?)),
            // A backend that is away answers every call so, and each write that may have happened stays open to the end.
            Err(error) if error.maybe_applied() => {
                self.cx.wait(Self::BREATH).await;
                None
            }
            Err(error) if error.is_retryable() => {
                self.cx.wait(Self::BREATH).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.history.entry(segment).or_default().push(Operation { client: self.name, call, called, returned });
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
                self.see(segment, entry.as_ref()).map(Answer::Found)
            }
            Call::Set { value, over, ttl } => {
                let expiry = ttl.map_or(Expiry::Never, Expiry::After);
                let options = SetOptions::default().with_when(self.when(segment, over)).with_expiry(expiry);
                match self.store.set(key, value.to_string().into(), &options).await? {
                    SetOutcome::Stored { version, .. } => {
                        self.seen.insert(segment, (value, version));
                        Ok(Answer::Stored)
                    }
                    SetOutcome::Refused { current } => self.see(segment, current.as_ref()).map(Answer::Refused),
                }
            }
            Call::Delete { over } => {
                let options = DeleteOptions::default().with_when(self.when(segment, over));
                match self.store.delete(key, &options).await? {
                    DeleteOutcome::Deleted { .. } => Ok(Answer::Deleted),
                    DeleteOutcome::Missing => Ok(Answer::Missing),
                    DeleteOutcome::Refused { current } => self.see(segment, current.as_ref()).map(Answer::Refused),
                }
            }
        })
    }

    /// The condition as the store knows it: what was seen last, by version or by value, as chance has it.
    fn when(&mut self, segment: &'static str, over: Over) -> When {
        match over {
            Over::Anything => When::Always,
            Over::Nothing => When::Absent,
            Over::Something => When::Present,
            Over::This(value) => match self.seen.get(segment) {
                Some(&(seen, Some(version)))
                    if seen == value && self.cx.has(Capability::Versions) && self.rng.random_bool(0.5) =>
                {
                    When::Version(version)
                }
                _ => When::Value(value.to_string().into()),
            },
        }
    }

    /// Reads a value that some client wrote, and remembers it.
    fn see(&mut self, segment: &'static str, entry: Option<&Entry>) -> Result<Option<Value>, Failure> {
        let Some(entry) = entry else { return Ok(None) };
        let value = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
        let value: Value = value.ok_or_else(|| Failure::new(format!("nobody wrote {:?}", entry.value)))?;
        self.seen.insert(segment, (value, entry.version));
        Ok(Some(value))
    }

    /// The tick is taken outside the call, and the clock outside the tick: both only widen what is concurrent.
    fn moment(&self, edge: Edge) -> Moment {
        // The tolerance of clause T-2 and the millisecond that deadlines are rounded up by.
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
