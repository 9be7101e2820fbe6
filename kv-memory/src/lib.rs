#![doc = include_str!("../README.md")]

mod batch;
mod bounded;
mod bounds;
mod builder;
mod capabilities;
mod clear;
mod config;
mod deadlines;
mod engine;
mod error;
mod get;
mod list;
mod message;
mod open;
mod order;
mod scheme;
mod services;
mod slot;
mod state;
mod stats;
mod store;
mod sweep;
mod sweeper;
mod transaction;
mod unbounded;
mod update;
mod watch;
mod write;
mod yielding;

pub use self::builder::MemoryBuilder;
pub use self::capabilities::{BOUNDED_CAPABILITIES, CAPABILITIES};
pub use self::config::{EvictionPolicy, MemoryConfig};
pub use self::scheme::SCHEME;
pub use self::stats::MemoryStats;
pub use self::store::MemoryStore;
