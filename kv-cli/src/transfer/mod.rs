//! Entries on their way: exports, imports and copies, exact in key, value and deadline.

mod copy;
mod export;
mod format;
mod import;
mod writer;

pub use self::copy::copy;
pub use self::export::{ExportWriter, export};
pub use self::import::import;
