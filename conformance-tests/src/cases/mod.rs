//! The cases, a file for each subject.

mod basics;
mod keys;
mod values;

use crate::case::Case;

/// Every case, in the order of reports.
pub(crate) const ALL: &[&[Case]] = &[basics::CASES, keys::CASES, values::CASES];
