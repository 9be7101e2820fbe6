//! Checking a whole store, for whoever doubts its files.

use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;

/// What a check of a whole store has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// How many entries are sound, those included whose deadline has passed and that were not swept yet.
    pub entries: u64,
    /// How many entries are there and do not match their checksums.
    pub damaged_entries: u64,
    /// What else is wrong, a sentence each, without keys and values. Entries may be missing.
    pub problems: Vec<String>,
}

impl Verification {
    /// A store of so many sound and so many damaged entries.
    pub fn new(entries: u64, damaged_entries: u64) -> Self {
        Self { entries, damaged_entries, problems: Vec::new() }
    }

    /// Adds what else is wrong.
    #[must_use]
    pub fn with_problems(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged_entries == 0 && self.problems.is_empty()
    }
}

/// Takes the sound entries of a store that is checked, each once. An error ends the check, which gives it back.
pub type TakeEntry = Box<dyn FnMut(Key, Entry) -> Result<()> + Send>;
