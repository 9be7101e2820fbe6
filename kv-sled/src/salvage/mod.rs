//! Reading the files of a store without sled. sled may fail to open damaged files, and changes them if it opens them.
//!
//! sled's log is a file of segments. A segment has a header and messages. In this module, a message is sled's unit of
//! the log, and not a published message. A message holds a full version of a page of the tree, or a change of a page.
//! Headers and messages have checksums. This module reads the format of sled 0.34 (`pagecache/logger.rs`,
//! `serialization.rs`, `node.rs`). It skips damaged parts and counts these parts. The module writes nothing, except that
//! [`Tail::fill`] adds empty segments.

mod bytes;
mod files;
mod log;
mod page;
mod records;
mod segment_header;
mod snapshot;
mod tail;

pub(crate) use self::files::{Files, SEGMENT_BYTES};
pub(crate) use self::records::{Damage, for_each_record};
pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::tail::Tail;
