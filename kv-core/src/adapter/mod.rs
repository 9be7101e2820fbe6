//! Building blocks for adapters.
//!
//! Every adapter uses [`ErrorContext`], [`Effect`] and [`io_error`], so that every store reports errors the same way.
//! The other parts are for embedded databases, and each can be used alone:
//!
//! | part | does |
//! |---|---|
//! | [`Records`] | the reads and writes inside one transaction that a write needs |
//! | [`evaluate`] | evaluates each kind of write over `Records` |
//! | [`Writer`] | group commit: one thread evaluates queued writes in one transaction, and acknowledges them after it |
//! | [`PageFiller`] | fills a page of a list from an ordered iterator |
//! | [`engine`] | a whole store over an ordered map of bytes with transactions |

mod commit_error;
mod context;
mod effect;
pub mod engine;
pub mod evaluate;
mod io;
mod page;
mod records;
mod writer;

pub use self::commit_error::CommitError;
pub use self::context::ErrorContext;
pub use self::effect::Effect;
pub use self::io::io_error;
pub use self::page::PageFiller;
pub use self::records::{Due, KeyChunk, Records, TextRange};
pub use self::writer::{Committer, Pending, Writer, WriterOptions};
