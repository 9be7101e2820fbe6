#![doc = include_str!("../README.md")]

mod client;
pub mod escape;
mod hello;
pub mod line;
mod prefix_request;
pub mod private_file;
mod request;
mod server;
pub mod shape;
mod token;

pub use self::client::{CONNECT_TIMEOUT, LinesBuilder, LinesConfig, LinesStore, OPERATION_TIMEOUT, SCHEME};
pub use self::server::{Listener, ServeConfig, listen, serve, session};
pub use self::token::Token;
