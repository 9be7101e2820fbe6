//! Batches.

mod large_batches;
mod many;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[many::CASES, large_batches::CASES];
