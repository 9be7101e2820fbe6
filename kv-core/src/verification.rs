//! Results of verifying a whole store.

use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;

/// The result of verifying a whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The number of sound entries, including expired entries that were not swept yet.
    pub entries: u64,
    /// The number of entries that do not match their checksums.
    pub damaged_entries: u64,
    /// Other problems, one sentence each, without keys and values. If there is a problem, entries may be missing.
    pub problems: Vec<String>,
}

impl Verification {
    /// Creates a result with the numbers of sound and of damaged entries.
    pub fn new(entries: u64, damaged_entries: u64) -> Self {
        Self { entries, damaged_entries, problems: Vec::new() }
    }

    /// Adds other problems.
    #[must_use]
    pub fn with_problems(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// True if there are no damaged entries and no other problems.
    pub fn is_sound(&self) -> bool {
        self.damaged_entries == 0 && self.problems.is_empty()
    }
}

/// A callback that receives each sound entry of a store under verification once. If it returns an error, the
/// verification ends with that error.
pub type TakeEntry = Box<dyn FnMut(Key, Entry) -> Result<()> + Send>;
