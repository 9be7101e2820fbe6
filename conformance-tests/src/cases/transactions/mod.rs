//! Transactions.

mod atomicity;
mod commit;
mod large_transactions;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[commit::CASES, atomicity::CASES, large_transactions::CASES];
