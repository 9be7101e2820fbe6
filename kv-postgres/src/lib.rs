#![doc = include_str!("../README.md")]

mod address;
mod batch;
mod builder;
mod capabilities;
mod clear;
mod coalesce;
mod codec;
mod config;
mod connection;
mod delivery;
mod error;
mod estimate;
mod get;
mod list;
mod listen_connection;
mod listener;
mod listener_place;
mod message;
mod multi_key;
mod open;
mod permits;
mod rejection;
mod runtime;
mod schema;
mod scheme;
mod seal;
mod state;
mod statement;
mod store;
mod sweep;
mod tls;
mod transaction;
mod url_options;
mod watch;
mod write;

pub use deadpool_postgres;

pub use self::builder::PostgresBuilder;
pub use self::capabilities::{CAPABILITIES, POOLED_CAPABILITIES};
pub use self::config::{PostgresConfig, SyncMode};
pub use self::scheme::{SCHEME, SCHEME_LONG};
pub use self::store::PostgresStore;
