#![doc = include_str!("../README.md")]

mod batch;
mod builder;
mod capabilities;
mod change_log;
mod clear;
mod codec;
mod config;
mod connection;
mod error;
mod file;
mod foreign;
mod free_pages;
mod free_space;
mod get;
mod list;
mod liveness;
mod message;
mod message_hub;
mod open;
mod open_files;
mod poller;
mod read;
mod readers;
mod runtime;
mod schema;
mod scheme;
mod state;
mod statement;
mod store;
mod sweep;
mod transaction;
mod verify;
mod watch;
mod watchers;
mod weak_map;
mod write;
mod write_lock;
mod writer;

pub use rusqlite;

pub use self::builder::SqliteBuilder;
pub use self::capabilities::{CAPABILITIES, MEMORY_CAPABILITIES};
pub use self::config::{SqliteConfig, SyncMode};
pub use self::scheme::SCHEME;
pub use self::store::SqliteStore;
pub use self::verify::Verification;
