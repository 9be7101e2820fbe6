//! Single-flight: one running load for each key, shared by all its callers.
//!
//! [`Kv::get_or_insert_with`](crate::Kv::get_or_insert_with) uses it, and so do read-through caches.

mod fence;
mod flights;
mod waits;

pub use self::fence::Fence;
pub use self::flights::Flights;
