//! The server: sessions over a store.

mod budget;
mod execute;
mod listen;
mod parse;
mod session;
mod streams;

pub use self::listen::{listen, serve};
pub use self::session::session;
