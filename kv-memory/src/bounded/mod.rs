//! The bounded engine: it evicts entries to keep its bounds.

mod cached_slot;
mod engine;
mod indexes;
mod key_locks;

pub(crate) use self::engine::Bounded;
