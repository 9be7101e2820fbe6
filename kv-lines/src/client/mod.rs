//! The client: a store that another process serves.

mod address;
mod config;
mod connection;
mod endpoint;
mod pool;
mod response;
mod store;
mod stream;

pub use self::config::{CONNECT_TIMEOUT, LinesBuilder, LinesConfig, OPERATION_TIMEOUT, SCHEME};
pub use self::store::LinesStore;
