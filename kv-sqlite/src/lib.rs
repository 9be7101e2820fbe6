#![doc = include_str!("../README.md")]

mod batch;
mod board;
mod builder;
mod changes;
mod codec;
mod commons;
mod config;
mod error;
mod file;
mod keeper;
mod list;
mod open;
mod queue;
mod reader;
mod relied;
mod schema;
mod statement;
mod store;
mod sweep;
mod turn;
mod verify;
mod watch;
mod write;
mod writer;

pub use rusqlite;

pub use self::builder::SqliteBuilder;
pub use self::config::{SCHEME, SqliteConfig, SyncMode};
pub use self::store::{CAPABILITIES, MEMORY_CAPABILITIES, SqliteStore};
pub use self::verify::Verification;
