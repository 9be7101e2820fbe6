//! The reference model: the entries of one task, and the outcome of each step.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{Entry, Expires, Key, KeyPrefix, KvStore, ListQuery, counter};
use kv_sqlite::SqliteStore;

use super::step::{Condition, Item, ItemExpiry, Step, digest};

/// The known parts of an entry. The version is unknown if the write was not acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub value: Bytes,
    pub deadline: Option<u64>,
    pub version: Option<String>,
}

/// The entries of a task, including expired entries.
pub type State = BTreeMap<Key, Known>;

/// The effects of a step according to the model.
#[derive(Debug)]
pub struct Plan {
    pub outcome: String,
    /// The state after each part of the step. A part may be applied without the next part. The last state is the state
    /// after the whole step.
    pub after: Vec<State>,
    /// The keys of the writes whose outcomes have versions, in the order of the writes.
    pub written: Vec<Key>,
}

/// The state of one task while a step is applied, at one time of the clock.
#[derive(Debug)]
struct Model {
    state: State,
    now: u64,
    after: Vec<State>,
    written: Vec<Key>,
}

/// Computes the effects of a step on a state.
pub fn plan(state: &State, step: &Step, now: u64) -> Plan {
    let mut model = Model { state: state.clone(), now, after: Vec::new(), written: Vec::new() };
    let outcome = model.apply(step);
    model.end_part();
    Plan { outcome, after: model.after, written: model.written }
}

impl Model {
    fn apply(&mut self, step: &Step) -> String {
        match step {
            Step::Set(item) => self.set(item, item.when).into(),
            Step::Delete { key, when } => match (self.holds(key, *when), self.live(key).is_some()) {
                (false, _) => "refused".into(),
                (true, false) => "missing".into(),
                (true, true) => {
                    self.state.remove(key);
                    "deleted".into()
                }
            },
            Step::Touch { key, deadline } => {
                let Some(mut known) = self.live(key).cloned() else { return "false".into() };
                known.deadline = *deadline;
                self.state.insert(key.clone(), known);
                "true".into()
            }
            Step::Increment { key, by, deadline } => {
                let (sum, deadline) = match self.live(key) {
                    None => (*by, *deadline),
                    Some(known) => match counter::add(&known.value, *by) {
                        Ok(sum) => (sum, known.deadline),
                        Err(_) => return "invalid".into(),
                    },
                };
                let known = Known { value: sum.to_string().into(), deadline, version: None };
                self.state.insert(key.clone(), known);
                sum.to_string()
            }
            Step::Commit { check: (key, condition), items, deleted } => {
                if !self.holds(key, *condition) {
                    return "refused0".into();
                }
                for item in items {
                    self.set(item, Condition::Always);
                }
                self.state.remove(deleted);
                "committed".into()
            }
            Step::SetMany(items) => self.each(items, |model, item| model.set(item, Condition::Always)),
            Step::DeleteMany(keys) => self.each(keys, |model, key| {
                let was_live = model.live(key).is_some();
                model.state.remove(key);
                if was_live { "deleted" } else { "missing" }
            }),
            Step::Clear(prefix) => {
                let keys: Vec<Key> = self.keys_under(prefix);
                self.each(&keys, |model, key| {
                    model.state.remove(key);
                    ""
                });
                keys.len().to_string()
            }
            Step::Get(key) => digest(self.live(key).map(|known| known.value.clone())),
            Step::Contains(key) => self.live(key).is_some().to_string(),
            Step::GetMany(keys) => {
                let values = keys.iter().map(|key| digest(self.live(key).map(|known| known.value.clone())));
                values.collect::<Vec<_>>().join(",")
            }
            Step::List { prefix, reverse, limit } => {
                let mut keys = self.keys_under(prefix);
                if *reverse {
                    keys.reverse();
                }
                keys.iter().take(*limit).map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
            Step::Sweep => "swept".into(),
            Step::Flush => "flushed".into(),
        }
    }

    fn live(&self, key: &Key) -> Option<&Known> {
        self.state.get(key).filter(|known| is_live(known, self.now))
    }

    /// The live keys under a prefix, in order.
    fn keys_under(&self, prefix: &KeyPrefix) -> Vec<Key> {
        let covered = self.state.keys().filter(|key| prefix.covers(key) && self.live(key).is_some());
        covered.cloned().collect()
    }

    fn holds(&self, key: &Key, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => self.live(key).is_none(),
            Condition::OtherVersion => false,
            Condition::Present | Condition::SameVersion | Condition::SameValue => self.live(key).is_some(),
        }
    }

    fn set(&mut self, item: &Item, when: Condition) -> &'static str {
        if !self.holds(&item.key, when) {
            return "refused";
        }
        let deadline = match item.expiry {
            ItemExpiry::At(deadline) => deadline,
            ItemExpiry::Keep => self.live(&item.key).and_then(|known| known.deadline),
        };
        self.written.push(item.key.clone());
        self.state.insert(item.key.clone(), Known { value: item.value.clone(), deadline, version: None });
        "stored"
    }

    /// Applies a call that is not atomic: its first items may be applied without the remaining items.
    fn each<T>(&mut self, items: &[T], mut apply: impl FnMut(&mut Self, &T) -> &'static str) -> String {
        let mut words = Vec::new();
        for item in items {
            words.push(apply(self, item));
            self.end_part();
        }
        words.join(",")
    }

    fn end_part(&mut self) {
        self.after.push(self.state.clone());
    }
}

fn is_live(known: &Known, now: u64) -> bool {
    known.deadline.is_none_or(|deadline| deadline > now)
}

pub fn moment(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Reads all entries of the store, by task.
pub async fn read_states(store: &SqliteStore, tasks: usize) -> Vec<State> {
    let mut states = vec![State::new(); tasks];
    let mut query = ListQuery::default();
    loop {
        let page = store.list(&query).await.unwrap();
        for item in page.items {
            let task: usize = item.key.segments().next().unwrap()[1..].parse().unwrap();
            states[task].insert(item.key, known(item.entry.unwrap()));
        }
        match page.next {
            Some(next) => query = query.resume(next),
            None => return states,
        }
    }
}

fn known(entry: Entry) -> Known {
    let deadline = match entry.expires {
        Expires::At(moment) => {
            Some(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
        }
        _ => None,
    };
    Known { value: entry.value, deadline, version: entry.version.map(|version| version.to_string()) }
}

/// True if the entries in `found` are the live entries of this state.
pub fn is_same(state: &State, found: &State, now: u64) -> bool {
    let live = || state.iter().filter(|(_, known)| is_live(known, now));
    live().count() == found.len()
        && live().all(|(key, known)| {
            found.get(key).is_some_and(|entry| {
                entry.value == known.value
                    && entry.deadline == known.deadline
                    && (known.version.is_none() || entry.version == known.version)
            })
        })
}

/// Describes a state, one line per entry.
pub fn describe(state: &State) -> String {
    let line = |(key, known): (&Key, &Known)| {
        let start = String::from_utf8_lossy(&known.value[..known.value.len().min(24)]).into_owned();
        format!("\n  {key}: {start} ({} bytes) until {:?}, {:?}", known.value.len(), known.deadline, known.version)
    };
    state.iter().map(line).collect()
}
