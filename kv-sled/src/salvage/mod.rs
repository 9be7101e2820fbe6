//! Reading the files of a store without sled, which may not open them, and changes them when it does.
//!
//! sled's log is a file of segments, each a header and messages; a message replaces a page of the tree, or adds to it. Every
//! part has a checksum. What is read here is what sled 0.34 writes (`pagecache/logger.rs`, `serialization.rs`,
//! `node.rs`); nothing is written, and what does not add up is passed over and counted.

mod bytes;
mod files;
mod log;
mod page;
mod records;

pub(crate) use self::files::Files;
pub(crate) use self::records::{Damage, for_each_record};
