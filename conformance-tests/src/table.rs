//! The table of all cases.

use crate::case::Case;
use crate::cases;

impl Case {
    /// Every case, in the order of reports.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        cases::ALL.iter().copied().flatten().copied().flatten()
    }
}
