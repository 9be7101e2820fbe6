//! A minimal model of the contract: a map of entries and a number for the time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kv_core::{Capabilities, KeyPrefix};

use super::answer::{Answer, Deadline, SeenEntry, VersionNumber, VersionNumbers};
use super::step::{Change, Condition, KEYS, KeyIndex, Lifetime, Listing, Step, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
struct StoredEntry {
    value: Bytes,
    /// The deadline in milliseconds after the script began. The entry is absent from this moment on.
    expires_at: Option<u64>,
    version: u64,
}

#[derive(Debug)]
pub(super) struct Model {
    capabilities: Capabilities,
    /// True if deadlines are compared to the millisecond.
    is_exact: bool,
    now: u64,
    entries: HashMap<KeyIndex, StoredEntry>,
    writes: u64,
    /// For each key, the version that the script saw last.
    seen: HashMap<KeyIndex, u64>,
    version_numbers: VersionNumbers<u64>,
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
            version_numbers: VersionNumbers::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Get(key) => self.get(*key),
            Step::Contains(key) => Answer::Found(self.live(*key).is_some()),
            Step::Set(write) => {
                let seen = self.seen_of(write.condition);
                self.set(write, seen)
            }
            Step::Delete { key, condition, previous } => self.delete(*key, *condition, *previous),
            Step::GetMany(keys) => Answer::Each(keys.iter().map(|key| self.get(*key)).collect()),
            Step::SetMany(writes) => {
                // Conditions compare versions from before the batch, because a caller builds the whole batch first.
                let seen: Vec<_> = writes.iter().map(|write| self.seen_of(write.condition)).collect();
                Answer::Each(writes.iter().zip(seen).map(|(write, seen)| self.set(write, seen)).collect())
            }
            Step::DeleteMany(keys) => {
                Answer::Each(keys.iter().map(|key| self.delete(*key, Condition::Always, false)).collect())
            }
            Step::List(listing) => self.list(listing),
            Step::Clear(prefix) => {
                let covered: Vec<KeyIndex> = self.in_order().into_iter().filter(|key| covers(*prefix, *key)).collect();
                for key in &covered {
                    self.entries.remove(key);
                }
                Answer::Cleared(covered.len() as u64)
            }
            Step::Touch(key, lifetime) => self.touch(*key, *lifetime),
            Step::Increment { key, by, lifetime } => self.increment(*key, *by, *lifetime),
            Step::Commit { checks, changes } => self.commit(checks, changes),
            Step::Advance(millis) => {
                self.now += millis;
                Answer::Done
            }
            Step::Sweep => Answer::Done,
        }
    }

    fn live(&self, key: KeyIndex) -> Option<&StoredEntry> {
        self.entries.get(&key).filter(|stored| stored.expires_at.is_none_or(|expires_at| expires_at > self.now))
    }

    fn get(&mut self, key: KeyIndex) -> Answer {
        Answer::Entry(self.record_entry(key))
    }

    /// Returns the live entry as the script sees it, and remembers its version as seen.
    fn record_entry(&mut self, key: KeyIndex) -> Option<SeenEntry> {
        let stored = self.live(key)?.clone();
        self.seen.insert(key, stored.version);
        Some(self.seen_entry(&stored))
    }

    fn seen_entry(&mut self, stored: &StoredEntry) -> SeenEntry {
        let deadline = match stored.expires_at {
            _ if !self.capabilities.deadlines => Deadline::NotShown,
            None => Deadline::Never,
            Some(expires_at) if self.is_exact => Deadline::At(expires_at),
            Some(_) => Deadline::AtUnknownTime,
        };
        SeenEntry { value: stored.value.clone(), version: self.version_number(stored.version), deadline }
    }

    fn version_number(&mut self, version: u64) -> Option<VersionNumber> {
        self.capabilities.versions.then(|| self.version_numbers.number(version))
    }

    /// The version that the condition compares, if the script has seen one.
    fn seen_of(&self, condition: Condition) -> Option<u64> {
        match condition {
            Condition::SeenVersion(key) => self.seen.get(&key).copied(),
            _ => None,
        }
    }

    fn holds(&self, key: KeyIndex, condition: Condition, seen: Option<u64>) -> bool {
        let live = self.live(key);
        match condition {
            Condition::Always => true,
            Condition::Absent => live.is_none(),
            Condition::Present => live.is_some(),
            Condition::Value(value) => live.is_some_and(|stored| stored.value == value.text()),
            Condition::SeenVersion(_) => live.is_some_and(|stored| seen == Some(stored.version)),
        }
    }

    fn expires_at(&self, key: KeyIndex, lifetime: Lifetime) -> Option<u64> {
        match lifetime {
            Lifetime::Never => None,
            Lifetime::Keep => self.live(key).and_then(|stored| stored.expires_at),
            Lifetime::After(millis) => Some(self.now + millis),
            Lifetime::Until(moment) => Some(moment),
        }
    }

    /// Writes an entry whose condition was checked, and returns the version.
    fn put(&mut self, key: KeyIndex, value: Bytes, lifetime: Lifetime) -> u64 {
        self.writes += 1;
        let stored = StoredEntry { value, expires_at: self.expires_at(key, lifetime), version: self.writes };
        self.entries.insert(key, stored);
        self.writes
    }

    fn set(&mut self, write: &Write, seen: Option<u64>) -> Answer {
        let Write { key, value, lifetime, condition, previous } = write;
        if !self.holds(*key, *condition, seen) {
            return Answer::Refused { current: self.record_entry(*key) };
        }
        let replaced = self.live(*key).cloned().filter(|_| *previous);
        let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *lifetime);
        let answer = Answer::Stored {
            version: self.version_number(version),
            previous: replaced.map(|stored| self.seen_entry(&stored)),
        };
        self.seen.insert(*key, version);
        answer
    }

    fn delete(&mut self, key: KeyIndex, condition: Condition, previous: bool) -> Answer {
        if !self.holds(key, condition, self.seen_of(condition)) {
            return Answer::Refused { current: self.record_entry(key) };
        }
        let removed = self.live(key).cloned();
        self.entries.remove(&key);
        match removed {
            Some(stored) => Answer::Deleted { previous: previous.then(|| self.seen_entry(&stored)) },
            None => Answer::Missing,
        }
    }

    fn touch(&mut self, key: KeyIndex, lifetime: Lifetime) -> Answer {
        let expires_at = self.expires_at(key, if lifetime == Lifetime::Keep { Lifetime::Never } else { lifetime });
        let is_live = self.live(key).is_some();
        if let Some(stored) = self.entries.get_mut(&key).filter(|_| is_live) {
            stored.expires_at = expires_at;
        }
        Answer::Found(is_live)
    }

    fn increment(&mut self, key: KeyIndex, by: i64, lifetime: Lifetime) -> Answer {
        let sum = match self.live(key) {
            None => Some((by, if lifetime == Lifetime::Keep { Lifetime::Never } else { lifetime })),
            Some(stored) => {
                let number: Option<i64> = std::str::from_utf8(&stored.value).ok().and_then(|text| text.parse().ok());
                number.and_then(|number| number.checked_add(by)).map(|sum| (sum, Lifetime::Keep))
            }
        };
        let Some((sum, lifetime)) = sum else { return Answer::Failed("invalid".to_owned()) };
        self.put(key, sum.to_string().into(), lifetime);
        Answer::Sum(sum)
    }

    fn commit(&mut self, checks: &[(KeyIndex, Condition)], changes: &[Change]) -> Answer {
        if let Some(failed) =
            checks.iter().position(|(key, condition)| !self.holds(*key, *condition, self.seen_of(*condition)))
        {
            return Answer::RefusedAt(failed);
        }
        let mut versions = Vec::new();
        for change in changes {
            versions.push(match change {
                Change::Set(key, value, lifetime) => {
                    let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *lifetime);
                    self.seen.insert(*key, version);
                    self.version_number(version)
                }
                Change::Delete(key) => {
                    self.entries.remove(key);
                    None
                }
            });
        }
        Answer::Committed(versions)
    }

    fn in_order(&self) -> Vec<KeyIndex> {
        let live: BTreeMap<_, _> = (0..KEYS.len())
            .map(KeyIndex)
            .filter(|key| self.live(*key).is_some())
            .map(|key| (key.segments(), key))
            .collect();
        live.into_values().collect()
    }

    fn list(&mut self, listing: &Listing) -> Answer {
        let Listing { prefix, after, before, reverse, limit: _, keys_only } = listing;
        let mut keys: Vec<KeyIndex> = self
            .in_order()
            .into_iter()
            .filter(|key| covers(*prefix, *key))
            .filter(|key| after.is_none_or(|after| key.segments() > after.segments()))
            .filter(|key| before.is_none_or(|before| key.segments() < before.segments()))
            .collect();
        if *reverse {
            keys.reverse();
        }
        let items =
            keys.into_iter().map(|key| (Some(key), if *keys_only { None } else { self.record_entry(key) })).collect();
        Answer::Items(items)
    }
}

fn covers(prefix: Option<KeyIndex>, key: KeyIndex) -> bool {
    prefix.is_none_or(|prefix| key.segments().starts_with(prefix.segments()))
}

/// Converts the prefix of a step to a prefix of the store.
pub(super) fn prefix(key: Option<KeyIndex>) -> KeyPrefix {
    key.map_or(KeyPrefix::ALL, |key| key.key().into())
}
