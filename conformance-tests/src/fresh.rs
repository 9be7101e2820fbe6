//! The name, the folder and the clock of a case's store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Error, ManualClock, Result};

use crate::folder;

/// The name, the folder and the clock that belong to one case alone.
///
/// A store on a shared backend uses the name as its namespace or table, and a store in files uses the folder. A store in
/// memory needs neither. A store with a clock uses this clock if the suite has
/// [`Suite::with_clock`](crate::Suite::with_clock).
#[derive(Debug, Clone)]
pub struct Fresh {
    name: String,
    clock: ManualClock,
}

impl Fresh {
    pub(crate) fn new(suite: &str, case: &str, seed: u64) -> Self {
        // The name is unique per run, suite and case, short enough for an identifier, and recognisable if a run does
        // not remove its store. Suites of one program may have the same seed.
        let bytes = suite.bytes().chain([0]).chain(case.bytes());
        let hash = bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { name: format!("ct_{seed:08x}_{hash:016x}"), clock: late_in_a_second() }
    }

    /// The `Fresh` with this name, in a child process.
    pub(crate) fn named(name: String) -> Self {
        Self { name, clock: late_in_a_second() }
    }

    /// The `Fresh` of the same store, with a clock that shows an earlier time.
    pub(crate) fn earlier(&self, by: Duration) -> Self {
        let now = self.clock.now();
        Self { clock: ManualClock::at(now.checked_sub(by).unwrap_or(now)), ..self.clone() }
    }

    /// A name that no other case or run uses: letters, digits and `_`, at most 28 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder that no other case or run uses, for a store in files. It exists, and is removed after the case. A child
    /// process of the test program gets the same folder for the same store.
    ///
    /// # Errors
    /// `Unavailable` if the folder cannot be created.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.folder_path();
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::unavailable(format!("the folder {} could not be created: {error}", folder.display()))
        })?;
        Ok(folder)
    }

    /// The path of the folder, which may not exist.
    pub(crate) fn folder_path(&self) -> PathBuf {
        folder::root().join(&self.name)
    }

    /// The clock that the case advances.
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::new(self.clock.clone())
    }
}

/// A clock that starts late in a second, so that a store that rounds to seconds or loses a carry fails many cases.
fn late_in_a_second() -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(Duration::from_millis(789));
    clock
}
