//! The versions that a script has seen.

use std::collections::HashMap;
use std::hash::Hash;

use super::answer::{Answer, VersionNumber};
use super::step::{Change, KeyIndex, Step};

/// The versions that a script has seen: the last version of each key, for conditions, and the number of every version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory<V: Eq + Hash> {
    last: HashMap<KeyIndex, V>,
    numbers: HashMap<V, VersionNumber>,
}

impl<V: Eq + Hash> Default for Memory<V> {
    fn default() -> Self {
        Self { last: HashMap::new(), numbers: HashMap::new() }
    }
}

impl<V: Copy + Eq + Hash> Memory<V> {
    /// The version of the key that the script saw last.
    pub(super) fn last(&self, key: KeyIndex) -> Option<V> {
        self.last.get(&key).copied()
    }

    /// The number of the version. A new version gets the next number.
    pub(super) fn number(&mut self, version: V) -> VersionNumber {
        let next = VersionNumber(self.numbers.len());
        *self.numbers.entry(version).or_insert(next)
    }

    /// True if the version has this number. A new version gets this number if no other number comes first.
    pub(super) fn has_number(&mut self, version: V, number: VersionNumber) -> bool {
        match self.numbers.get(&version) {
            Some(known) => *known == number,
            None => number == VersionNumber(self.numbers.len()) && self.number(version) == number,
        }
    }

    /// Remembers the versions in the answer to a step, and returns the answer with their numbers.
    pub(super) fn observe(&mut self, step: &Step, answer: Answer<V>) -> Answer {
        self.remember(step, &answer);
        answer.map(&mut |version| self.number(version))
    }

    fn remember(&mut self, step: &Step, answer: &Answer<V>) {
        match (step, answer) {
            (Step::Get(key) | Step::Delete { key, .. }, answer) => self.see(*key, answer),
            (Step::Set(write), answer) => self.see(write.key, answer),
            (Step::GetMany(_) | Step::SetMany(_) | Step::DeleteMany(_), Answer::Each(answers)) => {
                for (part, answer) in step.parts().iter().zip(answers) {
                    self.remember(part, answer);
                }
            }
            (Step::Together(steps), Answer::Each(answers)) => {
                for (step, answer) in steps.iter().zip(answers) {
                    self.remember(step, answer);
                }
            }
            (Step::List(_), Answer::Items(items)) => {
                for (key, entry) in items.iter().filter_map(|(key, entry)| Some((*key, entry.as_ref()?))) {
                    self.last.extend(key.zip(entry.version));
                }
            }
            (Step::Commit { changes, .. }, Answer::Committed(versions)) => {
                for (change, version) in changes.iter().zip(versions) {
                    let (Change::Set(key, ..) | Change::Delete(key)) = change;
                    self.last.extend(version.map(|version| (*key, version)));
                }
            }
            _ => {}
        }
    }

    fn see(&mut self, key: KeyIndex, answer: &Answer<V>) {
        let version = match answer {
            Answer::Entry(Some(entry)) | Answer::Refused { current: Some(entry) } => entry.version,
            Answer::Stored { version, .. } => *version,
            _ => None,
        };
        self.last.extend(version.map(|version| (key, version)));
    }
}
