//! The engine that evicts entries when it is full.

mod cached_slot;
mod engine;
mod indexes;
mod key_locks;

pub(crate) use self::engine::Bounded;
