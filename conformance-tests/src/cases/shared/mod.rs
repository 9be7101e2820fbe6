//! Several handles, several processes, and outages of the backend.

mod handles;
mod outage;
mod processes;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[handles::CASES, processes::CASES, outage::CASES];
