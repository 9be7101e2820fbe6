//! The store as the contract describes it, in as few words as it takes: a map, and a number for the time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kv_core::{Capabilities, KeyPrefix};

use super::answer::{Answer, Nth, Shown, Sightings, Until};
use super::step::{Change, Guard, KEYS, Life, Listing, Name, Step, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    value: Bytes,
    /// In milliseconds since the script began; from then on it is absent.
    ends: Option<u64>,
    version: u64,
}

#[derive(Debug)]
pub(super) struct Model {
    capabilities: Capabilities,
    /// Whether deadlines can be told to the millisecond.
    is_exact: bool,
    now: u64,
    entries: HashMap<Name, Held>,
    writes: u64,
    /// The version that the script saw last of each key.
    seen: HashMap<Name, u64>,
    sightings: Sightings<u64>,
}

impl Model {
    pub(super) fn new(capabilities: Capabilities, is_exact: bool) -> Self {
        Self {
            capabilities,
            is_exact,
            now: 0,
            entries: HashMap::new(),
            writes: 0,
            seen: HashMap::new(),
            sightings: Sightings::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Get(key) => self.get(*key),
            Step::Contains(key) => Answer::Found(self.live(*key).is_some()),
            Step::Set(write) => {
                let seen = self.seen_of(write.guard);
                self.set(write, seen)
            }
            Step::Delete { key, guard, previous } => self.delete(*key, *guard, *previous),
            Step::GetMany(keys) => Answer::Each(keys.iter().map(|key| self.get(*key)).collect()),
            Step::SetMany(writes) => {
                // Conditions are named before the batch begins.
                let seen: Vec<_> = writes.iter().map(|write| self.seen_of(write.guard)).collect();
                Answer::Each(writes.iter().zip(seen).map(|(write, seen)| self.set(write, seen)).collect())
            }
            Step::DeleteMany(keys) => {
                Answer::Each(keys.iter().map(|key| self.delete(*key, Guard::Always, false)).collect())
            }
            Step::List(listing) => self.list(listing),
            Step::Clear(prefix) => {
                let covered: Vec<Name> = self.in_order().into_iter().filter(|key| covers(*prefix, *key)).collect();
                for key in &covered {
                    self.entries.remove(key);
                }
                Answer::Cleared(covered.len() as u64)
            }
            Step::Touch(key, life) => self.touch(*key, *life),
            Step::Increment { key, by, life } => self.increment(*key, *by, *life),
            Step::Commit { checks, changes } => self.commit(checks, changes),
            Step::Pass(millis) => {
                self.now += millis;
                Answer::Done
            }
            Step::Sweep => Answer::Done,
        }
    }

    fn live(&self, key: Name) -> Option<&Held> {
        self.entries.get(&key).filter(|held| held.ends.is_none_or(|ends| ends > self.now))
    }

    fn get(&mut self, key: Name) -> Answer {
        Answer::Entry(self.show(key))
    }

    /// The live entry as the script sees it, and remembers its version.
    fn show(&mut self, key: Name) -> Option<Shown> {
        let held = self.live(key)?.clone();
        self.seen.insert(key, held.version);
        Some(self.shown(&held))
    }

    fn shown(&mut self, held: &Held) -> Shown {
        let until = match held.ends {
            _ if !self.capabilities.deadlines => Until::Unknown,
            None => Until::Never,
            Some(ends) if self.is_exact => Until::At(ends),
            Some(_) => Until::Sometime,
        };
        Shown { value: held.value.clone(), version: self.sight(held.version), until }
    }

    fn sight(&mut self, version: u64) -> Option<Nth> {
        self.capabilities.versions.then(|| self.sightings.number(version))
    }

    /// The version that the condition names, where it names one that was seen.
    fn seen_of(&self, guard: Guard) -> Option<u64> {
        match guard {
            Guard::SeenOf(name) => self.seen.get(&name).copied(),
            _ => None,
        }
    }

    fn holds(&self, key: Name, guard: Guard, seen: Option<u64>) -> bool {
        let live = self.live(key);
        match guard {
            Guard::Always => true,
            Guard::Absent => live.is_none(),
            Guard::Present => live.is_some(),
            Guard::Value(value) => live.is_some_and(|held| held.value == value.text()),
            Guard::SeenOf(_) => live.is_some_and(|held| seen == Some(held.version)),
        }
    }

    fn ends(&self, key: Name, life: Life) -> Option<u64> {
        match life {
            Life::Never => None,
            Life::Keep => self.live(key).and_then(|held| held.ends),
            Life::After(millis) => Some(self.now + millis),
            Life::Until(moment) => Some(moment),
        }
    }

    /// Writes what has been judged, and gives the version.
    fn put(&mut self, key: Name, value: Bytes, life: Life) -> u64 {
        self.writes += 1;
        let held = Held { value, ends: self.ends(key, life), version: self.writes };
        self.entries.insert(key, held);
        self.writes
    }

    fn set(&mut self, write: &Write, seen: Option<u64>) -> Answer {
        let Write { key, value, life, guard, previous } = write;
        if !self.holds(*key, *guard, seen) {
            return Answer::Refused { current: self.show(*key) };
        }
        let replaced = self.live(*key).cloned().filter(|_| *previous);
        let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *life);
        let answer = Answer::Stored { version: self.sight(version), previous: replaced.map(|held| self.shown(&held)) };
        self.seen.insert(*key, version);
        answer
    }

    fn delete(&mut self, key: Name, guard: Guard, previous: bool) -> Answer {
        if !self.holds(key, guard, self.seen_of(guard)) {
            return Answer::Refused { current: self.show(key) };
        }
        let removed = self.live(key).cloned();
        self.entries.remove(&key);
        match removed {
            Some(held) => Answer::Deleted { previous: previous.then(|| self.shown(&held)) },
            None => Answer::Missing,
        }
    }

    fn touch(&mut self, key: Name, life: Life) -> Answer {
        let ends = self.ends(key, if life == Life::Keep { Life::Never } else { life });
        let is_there = self.live(key).is_some();
        if let Some(held) = self.entries.get_mut(&key).filter(|_| is_there) {
            held.ends = ends;
        }
        Answer::Found(is_there)
    }

    fn increment(&mut self, key: Name, by: i64, life: Life) -> Answer {
        let sum = match self.live(key) {
            None => Some((by, if life == Life::Keep { Life::Never } else { life })),
            Some(held) => {
                let number: Option<i64> = std::str::from_utf8(&held.value).ok().and_then(|text| text.parse().ok());
                number.and_then(|number| number.checked_add(by)).map(|sum| (sum, Life::Keep))
            }
        };
        let Some((sum, life)) = sum else { return Answer::Failed("invalid".to_owned()) };
        self.put(key, sum.to_string().into(), life);
        Answer::Sum(sum)
    }

    fn commit(&mut self, checks: &[(Name, Guard)], changes: &[Change]) -> Answer {
        if let Some(failed) = checks.iter().position(|(key, guard)| !self.holds(*key, *guard, self.seen_of(*guard))) {
            return Answer::RefusedAt(failed);
        }
        let mut versions = Vec::new();
        for change in changes {
            versions.push(match change {
                Change::Set(key, value, life) => {
                    let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *life);
                    self.seen.insert(*key, version);
                    self.sight(version)
                }
                Change::Delete(key) => {
                    self.entries.remove(key);
                    None
                }
            });
        }
        Answer::Committed(versions)
    }

    fn in_order(&self) -> Vec<Name> {
        let live: BTreeMap<_, _> = (0..KEYS.len())
            .map(Name)
            .filter(|key| self.live(*key).is_some())
            .map(|key| (key.segments(), key))
            .collect();
        live.into_values().collect()
    }

    fn list(&mut self, listing: &Listing) -> Answer {
        let Listing { prefix, after, before, reverse, limit: _, keys_only } = listing;
        let mut names: Vec<Name> = self
            .in_order()
            .into_iter()
            .filter(|key| covers(*prefix, *key))
            .filter(|key| after.is_none_or(|after| key.segments() > after.segments()))
            .filter(|key| before.is_none_or(|before| key.segments() < before.segments()))
            .collect();
        if *reverse {
            names.reverse();
        }
        let items = names.into_iter().map(|key| (Some(key), if *keys_only { None } else { self.show(key) })).collect();
        Answer::Items(items)
    }
}

fn covers(prefix: Option<Name>, key: Name) -> bool {
    prefix.is_none_or(|prefix| key.segments().starts_with(prefix.segments()))
}

/// The prefix of a script.
pub(super) fn prefix(name: Option<Name>) -> KeyPrefix {
    name.map_or(KeyPrefix::ALL, |name| name.key().into())
}
