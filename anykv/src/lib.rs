#![doc = include_str!("../README.md")]

mod open;

pub use kv_core::*;
#[cfg(feature = "lines")]
pub use kv_lines as lines;
#[cfg(feature = "memory")]
pub use kv_memory as memory;
#[cfg(feature = "postgres")]
pub use kv_postgres as postgres;
#[cfg(feature = "redis")]
pub use kv_redis as redis;
#[cfg(feature = "sled")]
pub use kv_sled as sled;
#[cfg(feature = "sqlite")]
pub use kv_sqlite as sqlite;

pub use self::open::{open, registry};

/// Runs the examples of the workspace's README as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
