#![doc = include_str!("../README.md")]

mod address;
mod batch;
mod bucket_group;
mod builder;
mod capabilities;
mod clear;
mod codec;
mod config;
mod error;
mod get;
mod get_queue;
mod index_reader;
mod index_trust;
mod layout;
mod layout_record;
mod list;
mod listener;
mod message;
mod open;
mod options;
mod page;
mod scan;
mod scheme;
mod script;
mod server;
mod settings;
mod state;
mod store;
mod sweep;
mod transaction;
mod watch;
mod write;
mod write_gate;

pub use redis;

pub use self::builder::RedisBuilder;
pub use self::capabilities::{
    CAPABILITIES, CLUSTER_CAPABILITIES, CLUSTER_INDEX_FREE_CAPABILITIES, CLUSTER_PLAIN_CAPABILITIES,
    INDEX_FREE_CAPABILITIES, PLAIN_CAPABILITIES,
};
pub use self::codec::Format;
pub use self::config::{Index, RedisConfig, Secret};
pub use self::scheme::{CLUSTER_SCHEME, SCHEME, SCHEMES, TLS_SCHEME, UNIX_SCHEME};
pub use self::store::RedisStore;
