//! Plays recorded traffic on any key-value layer, and counts wrong answers.
//!
//! `kv replay` checks more, but only stores of anykv. This crate plays the same recording in the same way on every
//! [`Peer`], so that throughput can be compared. One client performs all operations of a key, in order, so that the
//! client knows the right answers. A program that [`serve`]s a peer plays in its own process on request.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed measurement panics")]
#![allow(clippy::disallowed_methods, reason = "measurements read the system clock")]
#![expect(clippy::future_not_send, reason = "requests are served on one thread")]

mod peer;
mod play;
mod prefill;
mod serve;
mod trace;

pub use self::peer::Peer;
pub use self::play::{Played, play};
pub use self::prefill::prefill;
pub use self::serve::{Prefilled, Request, serve};
pub use self::trace::{Step, Trace};
