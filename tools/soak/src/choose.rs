//! The choice of the next call of a task.

use std::collections::BTreeMap;

use anykv::Version;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::operation::{Answer, Call, Change, Condition, Life, Operation, Seen, SharedCall, Value, Write};
use crate::shared::COUNTERS;

/// The number of keys of a task that hold bytes.
const KEYS: usize = 12;

/// The number of keys of a task that hold numbers.
const NUMBERS: usize = 3;

/// The keys that the group of a task can have.
pub(crate) fn keys_of_group() -> impl Iterator<Item = String> {
    (0..KEYS).map(|index| format!("k{index}")).chain((0..NUMBERS).map(|index| format!("n{index}")))
}

/// The name of the group of a task.
pub(crate) fn group_name(task: usize) -> String {
    format!("task{task}")
}

#[derive(Debug)]
pub(crate) struct Chooser {
    rng: StdRng,
    task: usize,
    /// The number of the last written value. No other value in any round of a store has this number.
    number: u64,
    /// The entry of each key of the group, as this task last saw it.
    seen: BTreeMap<String, Seen>,
    /// The swapped number that this task saw last, and its version.
    swapped: (i64, Option<Version>),
}

impl Chooser {
    pub(crate) fn new(seed: u64, round: u64, task: usize) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ (round << 8) ^ (task as u64) << 56);
        Self { rng, task, number: round << 32, seen: BTreeMap::new(), swapped: (0, None) }
    }

    pub(crate) fn next(&mut self) -> Operation {
        match self.rng.random_range(0..100) {
            0..18 => Operation::Shared(self.shared()),
            _ => Operation::Own(self.own()),
        }
    }

    /// Remembers the entries in an answer, for later conditions.
    pub(crate) fn learn(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::Own(Call::Get(key)), Answer::Found(found)) => self.remember(key, found.as_ref()),
            (Operation::Own(Call::Set { write, .. }), Answer::Refused(found)) => {
                self.remember(&write.key, found.as_ref());
            }
            (Operation::Own(Call::Set { write, .. }), Answer::Stored(version)) => {
                let entry = Seen { value: write.value.clone(), version: *version, deadline: None };
                self.remember(&write.key, Some(&entry));
            }
            (Operation::Own(Call::List { .. }), Answer::Listed(listed)) => {
                self.seen = listed.iter().cloned().collect();
            }
            (Operation::Shared(SharedCall::Swap { to, .. }), Answer::Stored(version)) => self.swapped = (*to, *version),
            (Operation::Shared(SharedCall::Swap { .. }), Answer::Refused(current)) => {
                self.swapped = match current {
                    Some(Seen { value: Value::Number(number), version, .. }) => (*number, *version),
                    _ => (0, None),
                };
            }
            _ => {}
        }
    }

    fn remember(&mut self, key: &str, entry: Option<&Seen>) {
        match entry {
            Some(entry) => drop(self.seen.insert(key.to_owned(), entry.clone())),
            None => drop(self.seen.remove(key)),
        }
    }

    fn shared(&mut self) -> SharedCall {
        let [first, second, swapped] = COUNTERS;
        match self.rng.random_range(0..20) {
            0..8 => {
                let key = if self.rng.random() { first } else { second };
                SharedCall::Add { key: key.to_owned(), by: self.rng.random_range(1..=1_000_000) }
            }
            8..12 => {
                let (number, version) = self.swapped;
                SharedCall::Swap { key: swapped.to_owned(), version, to: number + 1 }
            }
            12..19 => {
                self.number += 1;
                SharedCall::WriteAll { writer: self.task, number: self.number, size: self.size() }
            }
            _ => SharedCall::RemoveAll,
        }
    }

    fn own(&mut self) -> Call {
        match self.rng.random_range(0..100) {
            0..14 => Call::Get(self.key()),
            14..18 => Call::GetMany(self.some_keys()),
            18..21 => Call::List { reverse: self.rng.random() },
            21..48 => {
                let write = self.write();
                Call::Set { when: self.condition(&write.key), write }
            }
            48..55 => {
                let keys = self.some_keys();
                Call::SetMany(keys.into_iter().map(|key| self.write_of(key)).collect())
            }
            55..61 => {
                let key = self.any_key();
                Call::Delete { when: self.condition(&key), key }
            }
            61..64 => Call::DeleteMany(self.some_keys()),
            64..68 => Call::Take(self.any_key()),
            68..75 => {
                let life = match self.life() {
                    Life::Keep => Life::Unlimited,
                    life => life,
                };
                Call::Touch { key: self.any_key(), life }
            }
            75..87 => {
                let life = if self.rng.random_bool(0.2) { Life::Millis(self.millis()) } else { Life::Unlimited };
                Call::Increment { key: self.number_key(), by: self.rng.random_range(-1_000..=1_000), life }
            }
            _ => self.commit(),
        }
    }

    fn commit(&mut self) -> Call {
        let mut checks = Vec::new();
        for _ in 0..self.rng.random_range(0..3) {
            let key = self.key();
            checks.push((key.clone(), self.condition(&key)));
        }
        let keys = self.some_keys();
        let changes = keys
            .into_iter()
            .map(|key| if self.rng.random_bool(0.25) { Change::Delete(key) } else { Change::Set(self.write_of(key)) });
        Call::Commit { checks, changes: changes.collect() }
    }

    /// Most conditions name the entry that this task last saw. Therefore some conditions hold and others fail.
    fn condition(&mut self, key: &str) -> Condition {
        let seen = self.seen.get(key);
        match (self.rng.random_range(0..10), seen) {
            (0..5, _) => Condition::Always,
            (5, _) => Condition::Absent,
            (6, _) => Condition::Present,
            (7, Some(seen)) => Condition::Value(seen.value.clone()),
            (_, Some(Seen { version: Some(version), .. })) => Condition::Version(*version),
            _ => Condition::Absent,
        }
    }

    fn write(&mut self) -> Write {
        let key = self.key();
        self.write_of(key)
    }

    fn write_of(&mut self, key: String) -> Write {
        self.number += 1;
        let value = Value::Written { writer: self.task, number: self.number, size: self.size() };
        Write { key, value, life: self.life() }
    }

    fn size(&mut self) -> usize {
        match self.rng.random_range(0..40) {
            0 => self.rng.random_range(65_537..300_000),
            1..4 => self.rng.random_range(1_000..9_000),
            // Every value begins with its origin, which takes up to 40 bytes.
            _ => self.rng.random_range(40..200),
        }
    }

    fn life(&mut self) -> Life {
        match self.rng.random_range(0..10) {
            0..6 => Life::Unlimited,
            6 => Life::Keep,
            _ => Life::Millis(self.millis()),
        }
    }

    /// A time to live that ends at once, in this round, or in a later round.
    fn millis(&mut self) -> u64 {
        match self.rng.random_range(0..10) {
            0 => 0,
            1..5 => self.rng.random_range(1..200),
            5..8 => self.rng.random_range(200..5_000),
            _ => self.rng.random_range(5_000..3_600_000),
        }
    }

    fn key(&mut self) -> String {
        format!("k{}", self.rng.random_range(0..KEYS))
    }

    fn number_key(&mut self) -> String {
        format!("n{}", self.rng.random_range(0..NUMBERS))
    }

    fn any_key(&mut self) -> String {
        if self.rng.random_bool(0.2) { self.number_key() } else { self.key() }
    }

    /// Two to five different keys.
    fn some_keys(&mut self) -> Vec<String> {
        let count = self.rng.random_range(2..=5);
        let keys: Vec<usize> = (0..KEYS).collect();
        keys.sample(&mut self.rng, count).map(|index| format!("k{index}")).collect()
    }
}
