//! The side that has a connection: a store that is elsewhere.

mod answer;
mod calls;
mod config;
mod connection;
mod endpoint;
mod store;
mod stream;

pub use self::config::{CONNECT_TIMEOUT, LinesBuilder, LinesConfig, OPERATION_TIMEOUT, SCHEME};
pub use self::store::LinesStore;
