//! The server: sessions over a store.

mod admission;
mod budget;
mod config;
mod execute;
mod input;
mod listen;
mod listener;
mod output;
mod parse;
mod response;
mod rules;
mod session;
mod streams;

pub use self::config::ServeConfig;
pub use self::listen::{listen, serve};
pub use self::listener::Listener;
pub use self::session::session;
