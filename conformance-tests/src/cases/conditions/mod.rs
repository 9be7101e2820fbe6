//! Conditions, versions and races for a key.

mod conditional_deletes;
mod races;
mod versions;
mod writes;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[writes::CASES, conditional_deletes::CASES, versions::CASES, races::CASES];
