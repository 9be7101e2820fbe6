#![doc = include_str!("../README.md")]

mod engine;
mod error;
mod scheme;
mod store;

pub use self::scheme::SCHEME;
pub use self::store::{CAPABILITIES, RedbBuilder, RedbStore};
