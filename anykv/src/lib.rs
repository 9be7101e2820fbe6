#![doc = include_str!("../README.md")]

mod open;

pub use kv_core::*;
#[cfg(feature = "memory")]
pub use kv_memory as memory;

pub use self::open::{open, registry};

/// The examples of the workspace's README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
