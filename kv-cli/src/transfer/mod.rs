//! Exports, imports and copies of entries. They preserve key, value and deadline exactly.

mod copy;
mod export;
mod format;
mod import;
mod writer;

pub use self::copy::copy;
pub use self::export::{ExportWriter, Exported, export};
pub use self::import::import;
