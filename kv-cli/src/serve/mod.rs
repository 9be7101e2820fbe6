//! Requests and responses as JSON lines, so that programs in any language can use and judge a store.
//!
//! `PROTOCOL.md` beside this crate describes what is spoken.

mod execute;
mod info;
mod listen;
mod request;
mod session;
mod streams;

pub use self::listen::listen;
pub use self::session::session;
