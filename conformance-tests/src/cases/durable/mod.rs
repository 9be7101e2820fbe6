//! Entries after a reopen, a kill and damage, and on a full disk.

mod crash;
mod crash_states;
mod damage;
mod full_disk;
mod restart;
mod restart_handles;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[restart::CASES, crash::CASES, damage::CASES, full_disk::CASES];
