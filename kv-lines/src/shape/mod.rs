//! How keys, values, entries and events stand in JSON: the same in the protocol, in what `kv` shows, and in export files.

mod entry;
mod error;
mod event;
mod info;
mod key;
mod many;
mod value;
mod whole;

pub use self::entry::{Entry, ExpiresAt, Unknown, millis, moment, segments};
pub use self::event::{Event, Reason};
pub use self::value::{Encoding, Value};

pub(crate) use self::entry::{Commit, Delete, Item, Page, Set, read, shown};
pub(crate) use self::error::Failure;
pub(crate) use self::event::{Hear, Heard};
pub(crate) use self::info::Info;
pub(crate) use self::key::Segments;
pub(crate) use self::many::Many;
pub(crate) use self::whole::Whole;
