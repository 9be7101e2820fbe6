#![doc = include_str!("../README.md")]

mod engine;
mod error;
mod scheme;
mod store;

pub use self::scheme::SCHEME;
pub use self::store::{CAPABILITIES, RedbBuilder, RedbStore};

/// Compiles the snippets of the author's guide.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adapter-guide.md")]
struct Guide;
