#![doc = include_str!("../README.md")]

mod bounded;
mod builder;
mod capabilities;
mod config;
mod context;
mod deadlines;
mod decide;
mod engine;
mod list;
mod memory;
mod named;
mod operations;
mod order;
mod slot;
mod stats;
mod store;
mod sweep;
mod unbounded;

pub use self::builder::MemoryBuilder;
pub use self::capabilities::{BOUNDED_CAPABILITIES, CAPABILITIES};
pub use self::config::{EvictionPolicy, MemoryConfig, SCHEME};
pub use self::memory::MemoryStore;
pub use self::stats::MemoryStats;
