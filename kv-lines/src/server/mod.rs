//! The side that has the store.

mod execute;
mod listen;
mod parse;
mod room;
mod session;
mod streams;

pub use self::listen::{listen, serve};
pub use self::session::session;
