#![doc = include_str!("../README.md")]

mod address;
mod batch;
mod builder;
mod codec;
mod config;
mod error;
mod home;
mod lane;
mod link;
mod list;
mod listen;
mod many;
mod message;
mod open;
mod schema;
mod state;
mod statement;
mod store;
mod sweep;
mod tls;
mod transaction;
mod watch;
mod write;

pub use deadpool_postgres;

pub use self::builder::PostgresBuilder;
pub use self::config::{PostgresConfig, SCHEME, SCHEME_LONG, SyncMode};
pub use self::store::{CAPABILITIES, POOLED_CAPABILITIES, PostgresStore};
