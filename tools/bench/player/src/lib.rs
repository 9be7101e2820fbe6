//! Plays recorded traffic on anything that reads and writes, and counts wrong answers.
//!
//! `kv replay` checks more, but only stores of anykv. This plays the same recording on whatever implements [`Peer`], in the same
//! way for all, so that rates can be compared: all operations of a key stay with one client and in order, so that each client
//! knows the right answer. A program that [`serve`]s a peer plays it in its own process when it is told to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that fails has no figure")]
#![allow(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![expect(clippy::future_not_send, reason = "orders are taken on one thread")]

mod peer;
mod play;
mod prefill;
mod serve;
mod trace;

pub use self::peer::Peer;
pub use self::play::{Played, play};
pub use self::prefill::prefill;
pub use self::serve::{Order, Prefilled, serve};
pub use self::trace::{Step, Trace};
