//! Entries after a reopen, a kill and damage.

mod crash;
mod crash_states;
mod damage;
mod restart;
mod restart_handles;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[restart::CASES, crash::CASES, damage::CASES];
