//! Watches.

mod changes;
mod watch_changes;
mod watch_loss;
mod watch_moments;
mod watch_paths;
mod watch_sinks;
mod watch_snapshot;
mod watch_targets;
mod zero_bound;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[
    changes::CASES,
    watch_paths::CASES,
    watch_targets::CASES,
    watch_snapshot::CASES,
    watch_moments::CASES,
    watch_loss::CASES,
    watch_changes::CASES,
    watch_sinks::CASES,
    zero_bound::CASES,
];
