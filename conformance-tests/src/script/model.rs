//! A minimal model of the contract: a map of entries and a number for the time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kv_core::{Capabilities, KeyPrefix};

use super::answer::{Answer, Deadline, Event, SeenEntry};
use super::memory::Memory;
use super::reports::{Change as Report, Reports};
use super::step::{
    Change, Condition, KEYS, KeyIndex, Lifetime, Listing, SLOTS, Slot, Step, ValueIndex, Watching, Write, covers,
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct StoredEntry {
    value: Bytes,
    /// The deadline in milliseconds after the script began. The entry is absent from this moment on.
    expires_at: Option<u64>,
    version: u64,
}

/// The unread messages of a subscription, each with its channel.
type Unread = Vec<(KeyIndex, ValueIndex)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    capabilities: Capabilities,
    /// True if deadlines are compared to the millisecond.
    is_exact: bool,
    /// True if several handles make the calls, so that a watch may report their changes late.
    has_other_handles: bool,
    now: u64,
    /// The entries, including expired ones that were not swept.
    entries: HashMap<KeyIndex, StoredEntry>,
    next_version: u64,
    pub(super) memory: Memory<u64>,
    /// The number of changes of each key.
    changes: HashMap<KeyIndex, usize>,
    watches: [Option<Reports>; SLOTS],
    /// The channels of the subscription, and its unread messages.
    subscription: Option<(Option<KeyIndex>, Unread)>,
}

impl Model {
    pub(super) fn new(capabilities: Capabilities, is_exact: bool, has_other_handles: bool) -> Self {
        Self {
            capabilities,
            is_exact,
            has_other_handles,
            now: 0,
            entries: HashMap::new(),
            next_version: 0,
            memory: Memory::default(),
            changes: HashMap::new(),
            watches: [const { None }; SLOTS],
            subscription: None,
        }
    }

    /// Returns the answer of the model to the step. The conditions in a batch compare versions from before the batch,
    /// because a caller builds the whole batch before the store returns new versions.
    pub(super) fn step(&mut self, step: &Step) -> Answer<u64> {
        match step {
            Step::Get(key) => Answer::Entry(self.entry(*key)),
            Step::Contains(key) => Answer::Found(self.live(*key).is_some()),
            Step::Set(write) => self.set(write),
            Step::Delete { key, condition, previous } => self.delete(*key, *condition, *previous),
            Step::GetMany(_) | Step::SetMany(_) | Step::DeleteMany(_) => {
                Answer::Each(step.parts().iter().map(|part| self.step(part)).collect())
            }
            Step::Together(steps) => Answer::Each(steps.iter().map(|step| self.step(step)).collect()),
            Step::Take(key) => {
                let live = self.live(*key).cloned();
                self.remove(*key);
                Answer::Taken(live.map(|stored| stored.value))
            }
            Step::List(listing) => self.list(listing),
            Step::Clear(prefix) => self.clear(*prefix),
            Step::Touch(key, lifetime) => self.touch(*key, *lifetime),
            Step::Increment { key, by, lifetime } => self.increment(*key, *by, *lifetime),
            Step::Commit { checks, changes } => self.commit(checks, changes),
            Step::Watch(slot, watching) => {
                self.watch(*slot, *watching);
                Answer::Done
            }
            Step::Unwatch(Slot(slot)) => {
                self.watches.get_mut(*slot).and_then(Option::take);
                Answer::Done
            }
            Step::ReadEvents(_) => Answer::Done,
            Step::Subscribe(channels) => {
                self.subscription = Some((*channels, Vec::new()));
                Answer::Done
            }
            Step::Publish(channel, payload) => {
                if let Some((channels, unread)) = &mut self.subscription {
                    unread.extend(covers(*channels, *channel).then_some((*channel, *payload)));
                }
                Answer::Done
            }
            Step::ReadMessages => self.read_messages(),
            Step::Advance(millis) => {
                self.advance(*millis);
                Answer::Done
            }
            Step::Sweep => {
                self.sweep();
                Answer::Done
            }
        }
    }

    /// The next write gets this version, and later writes get the versions after it.
    pub(super) fn number_from(&mut self, version: u64) {
        self.next_version = version;
    }

    /// The reports of the watch in the slot.
    pub(super) fn reports(&mut self, Slot(slot): Slot) -> Option<&mut Reports> {
        self.watches.get_mut(slot)?.as_mut()
    }

    /// Judges an event of the watch in the slot. Returns the model after each explanation of the event. If nothing
    /// explains the event, returns the events that the contract allows instead.
    pub(super) fn after_event(&mut self, slot: Slot, event: &Event) -> Result<Vec<Self>, String> {
        let memory = self.memory.clone();
        let Some(reports) = self.reports(slot) else { return Err("no event, because nothing is watched".to_owned()) };
        let explanations = reports.judge(event, &memory)?;
        Ok(explanations
            .into_iter()
            .map(|(reports, memory)| {
                let mut after = Self { memory, ..self.clone() };
                if let Some(place) = after.reports(slot) {
                    *place = reports;
                }
                after
            })
            .collect())
    }

    fn watch(&mut self, Slot(slot): Slot, watching: Watching) {
        let keys = (0..KEYS.len()).map(KeyIndex).filter(|key| watching.target.covers(*key));
        let changes = |key| self.changes.get(&key).copied().unwrap_or_default();
        let entries = keys.map(|key| (key, self.entry(key), changes(key))).collect();
        let mut reports = Reports::new(watching, entries, self.has_other_handles);
        for key in self.entries.keys().filter(|key| self.live(**key).is_none()) {
            reports.may_expire(*key);
        }
        if let Some(place) = self.watches.get_mut(slot) {
            *place = Some(reports);
        }
    }

    /// Notes a change of the key, which watches may or must report.
    fn note(&mut self, key: KeyIndex, change: Report) {
        let entry = self.entry(key);
        let is_expired = entry.is_none() && self.entries.contains_key(&key);
        *self.changes.entry(key).or_default() += match change {
            Report::Written { count, .. } => count,
            Report::Expired => 1,
        };
        for reports in self.watches.iter_mut().flatten() {
            reports.note(key, entry.as_ref(), change);
            if is_expired {
                reports.may_expire(key);
            }
        }
    }

    fn read_messages(&mut self) -> Answer<u64> {
        let unread = self.subscription.as_mut().map(|(_, unread)| std::mem::take(unread)).unwrap_or_default();
        let payload = |payload: ValueIndex| Bytes::from_static(payload.text().as_bytes());
        Answer::Messages(unread.into_iter().map(|(channel, value)| (Some(channel), payload(value))).collect())
    }

    fn advance(&mut self, millis: u64) {
        let live = self.in_order();
        self.now += millis;
        for key in live.into_iter().filter(|key| self.live(*key).is_none()).collect::<Vec<_>>() {
            self.note(key, Report::Expired);
        }
    }

    /// Removes the expired entries. A store that reports expiry must then report their removal.
    fn sweep(&mut self) {
        let expired: Vec<KeyIndex> = self.entries.keys().copied().filter(|key| self.live(*key).is_none()).collect();
        for key in expired {
            self.entries.remove(&key);
            if self.capabilities.watch_expiry {
                self.watches.iter_mut().flatten().for_each(|reports| reports.owe_expiry(key));
            }
        }
    }

    fn clear(&mut self, prefix: Option<KeyIndex>) -> Answer<u64> {
        let covered: Vec<KeyIndex> = self.in_order().into_iter().filter(|key| covers(prefix, *key)).collect();
        for key in &covered {
            self.remove(*key);
        }
        self.watches.iter_mut().flatten().for_each(Reports::may_be_flushed);
        Answer::Cleared(covered.len() as u64)
    }

    /// Removes the entry of the key, if there is one.
    fn remove(&mut self, key: KeyIndex) {
        let was_live = self.live(key).is_some();
        self.entries.remove(&key);
        if was_live {
            self.note(key, Report::MUST);
        }
    }

    fn live(&self, key: KeyIndex) -> Option<&StoredEntry> {
        self.entries.get(&key).filter(|stored| stored.expires_at.is_none_or(|expires_at| expires_at > self.now))
    }

    /// The live entry as a reader sees it.
    fn entry(&self, key: KeyIndex) -> Option<SeenEntry<u64>> {
        let StoredEntry { value, expires_at, version } = self.live(key)?.clone();
        let deadline = match expires_at {
            _ if !self.capabilities.deadlines => Deadline::NotShown,
            None => Deadline::Never,
            Some(expires_at) if self.is_exact => Deadline::At(expires_at),
            Some(_) => Deadline::AtUnknownTime,
        };
        Some(SeenEntry { value, version: self.shown(version), deadline })
    }

    /// The version, if the store shows versions.
    fn shown(&self, version: u64) -> Option<u64> {
        self.capabilities.versions.then_some(version)
    }

    fn holds(&self, key: KeyIndex, condition: Condition) -> bool {
        let live = self.live(key);
        match condition {
            Condition::Always => true,
            Condition::Absent => live.is_none(),
            Condition::Present => live.is_some(),
            Condition::Value(value) => live.is_some_and(|stored| stored.value == value.text()),
            Condition::SeenVersion(seen) => live.is_some_and(|stored| self.memory.last(seen) == Some(stored.version)),
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
        let version = self.next_version;
        self.next_version += 1;
        let stored = StoredEntry { value, expires_at: self.expires_at(key, lifetime), version };
        self.entries.insert(key, stored);
        version
    }

    /// Notes a write of the key. A write that finds no entry and leaves no entry need not be reported.
    fn note_write(&mut self, key: KeyIndex, was_live: bool) {
        let is_owed = was_live || self.live(key).is_some();
        self.note(key, if is_owed { Report::MUST } else { Report::MAY });
    }

    fn set(&mut self, write: &Write) -> Answer<u64> {
        let Write { key, value, lifetime, condition, previous } = write;
        let current = self.entry(*key);
        if !self.holds(*key, *condition) {
            return Answer::Refused { current };
        }
        let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *lifetime);
        self.note_write(*key, current.is_some());
        Answer::Stored { version: self.shown(version), previous: current.filter(|_| *previous) }
    }

    fn delete(&mut self, key: KeyIndex, condition: Condition, previous: bool) -> Answer<u64> {
        let current = self.entry(key);
        if !self.holds(key, condition) {
            return Answer::Refused { current };
        }
        self.remove(key);
        match current {
            Some(entry) => Answer::Deleted { previous: previous.then_some(entry) },
            None => Answer::Missing,
        }
    }

    fn touch(&mut self, key: KeyIndex, lifetime: Lifetime) -> Answer<u64> {
        let expires_at = self.expires_at(key, if lifetime == Lifetime::Keep { Lifetime::Never } else { lifetime });
        let is_live = self.live(key).is_some();
        if let Some(stored) = self.entries.get_mut(&key).filter(|_| is_live) {
            let is_owed = stored.expires_at != expires_at;
            stored.expires_at = expires_at;
            self.note(key, if is_owed { Report::MUST } else { Report::MAY });
        }
        Answer::Found(is_live)
    }

    fn increment(&mut self, key: KeyIndex, by: i64, lifetime: Lifetime) -> Answer<u64> {
        let live = self.live(key);
        let was_live = live.is_some();
        let sum = match live {
            None => Some((by, if lifetime == Lifetime::Keep { Lifetime::Never } else { lifetime })),
            Some(stored) => {
                let number: Option<i64> = std::str::from_utf8(&stored.value).ok().and_then(|text| text.parse().ok());
                number.and_then(|number| number.checked_add(by)).map(|sum| (sum, Lifetime::Keep))
            }
        };
        let Some((sum, lifetime)) = sum else { return Answer::Failed("invalid".to_owned()) };
        self.put(key, sum.to_string().into(), lifetime);
        self.note_write(key, was_live);
        Answer::Sum(sum)
    }

    fn commit(&mut self, checks: &[(KeyIndex, Condition)], changes: &[Change]) -> Answer<u64> {
        if let Some(failed) = checks.iter().position(|(key, condition)| !self.holds(*key, *condition)) {
            return Answer::RefusedAt(failed);
        }
        let mut versions = Vec::new();
        // For each changed key, the number of changes, and true if the key was live before them.
        let mut written: BTreeMap<KeyIndex, (usize, bool)> = BTreeMap::new();
        for change in changes {
            let (Change::Set(key, ..) | Change::Delete(key)) = change;
            let was_live = self.live(*key).is_some();
            written.entry(*key).or_insert((0, was_live)).0 += 1;
            versions.push(match change {
                Change::Set(key, value, lifetime) => {
                    let version = self.put(*key, Bytes::from_static(value.text().as_bytes()), *lifetime);
                    self.shown(version)
                }
                Change::Delete(key) => {
                    self.entries.remove(key);
                    None
                }
            });
        }
        for (key, (count, was_live)) in written {
            let is_owed = was_live || self.live(key).is_some();
            self.note(key, Report::Written { is_owed, count });
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

    fn list(&self, listing: &Listing) -> Answer<u64> {
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
        let entry = |key| if *keys_only { None } else { self.entry(key) };
        Answer::Items(keys.into_iter().map(|key| (Some(key), entry(key))).collect())
    }
}

/// Converts the prefix of a step to a prefix of the store.
pub(super) fn prefix(key: Option<KeyIndex>) -> KeyPrefix {
    key.map_or(KeyPrefix::ALL, |key| key.key().into())
}
