#![doc = include_str!("../README.md")]

mod client;
pub mod escape;
pub mod line;
mod request;
mod server;
pub mod shape;

pub use self::client::{CONNECT_TIMEOUT, LinesBuilder, LinesConfig, LinesStore, OPERATION_TIMEOUT, SCHEME};
pub use self::server::{listen, serve, session};
