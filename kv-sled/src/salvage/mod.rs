//! Reads the files of a store without sled, which may fail to open damaged files, and changes them if it does open
//! them.
//!
//! sled's log is a file of segments. A segment has a header and messages; a message replaces a page of the tree, or
//! adds to it. Every part has a checksum. This module reads the format of sled 0.34 (`pagecache/logger.rs`,
//! `serialization.rs`, `node.rs`). It writes nothing; it skips damaged parts and counts them.

mod bytes;
mod files;
mod log;
mod page;
mod records;

pub(crate) use self::files::{Files, SEGMENT_BYTES};
pub(crate) use self::records::{Damage, for_each_record};
