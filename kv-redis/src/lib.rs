#![doc = include_str!("../README.md")]

mod address;
mod batch;
mod builder;
mod capabilities;
mod cluster;
mod codec;
mod commit;
mod config;
mod error;
mod gather;
mod layout;
mod link;
mod list;
mod node;
mod offset;
mod open;
mod read;
mod request;
mod runs;
mod scan;
mod script;
mod split;
mod store;
mod sweep;
mod values;
mod watch;
mod write;

pub use redis;

pub use self::builder::RedisBuilder;
pub use self::capabilities::{
    CAPABILITIES, CLUSTER_CAPABILITIES, CLUSTER_INDEX_FREE_CAPABILITIES, CLUSTER_PLAIN_CAPABILITIES,
    INDEX_FREE_CAPABILITIES, PLAIN_CAPABILITIES,
};
pub use self::codec::Format;
pub use self::config::{CLUSTER_SCHEME, Index, RedisConfig, SCHEME, SCHEMES, Secret, TLS_SCHEME, UNIX_SCHEME};
pub use self::store::RedisStore;

/// How the server sees us.
const VERSION: &str = env!("CARGO_PKG_VERSION");
