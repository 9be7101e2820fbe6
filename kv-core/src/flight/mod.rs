//! Single-flight: one running load for each key, shared by all its callers.
//!
//! [`Kv::get_or_insert_with`](crate::Kv::get_or_insert_with) and read-through caches use this module.

mod fence;
mod flights;
mod waits;
mod writes;

pub use self::fence::Fence;
pub use self::flights::Flights;
pub use self::writes::Writing;
