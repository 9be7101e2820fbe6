//! Objects over entries.

mod head;
mod pieces;
mod store;
mod upload;

pub use self::store::Objects;
