//! Single-flight: one running load for each key, shared by all its callers.
//!
//! [`Kv::get_or_insert_with`](crate::Kv::get_or_insert_with) stands on it, and so do caches that load.

mod fence;
mod flights;
mod waits;

pub use self::fence::Fence;
pub use self::flights::Flights;
