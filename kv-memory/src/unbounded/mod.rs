//! The unbounded engine: it keeps every entry until its deadline.

mod engine;
mod shard;
mod transaction;

pub(crate) use self::engine::Unbounded;
