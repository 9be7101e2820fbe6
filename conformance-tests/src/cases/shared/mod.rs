//! Several handles, openers and processes, and outages of the backend.

mod handles;
mod openers;
mod outage;
mod outage_sinks;
mod processes;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[handles::CASES, openers::CASES, processes::CASES, outage::CASES];
