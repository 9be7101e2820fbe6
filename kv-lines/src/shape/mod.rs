//! The JSON forms of keys, values, entries and events. The protocol, the output of `kv` and export files share them.

mod batch;
mod entry;
mod error;
mod event;
mod info;
mod integer;
mod key;
mod value;

pub use self::entry::{Entry, ExpiresAt, Unknown, expiry_at_unix, segments, unix_millis};
pub use self::event::{Event, Reason};
pub use self::value::{Encoding, Value};

pub(crate) use self::batch::Batch;
pub(crate) use self::entry::{Commit, Delete, Page, Set, decode_entry, encode_entry};
pub(crate) use self::error::Failure;
pub(crate) use self::event::{FromStreamEvent, StreamEvent};
pub(crate) use self::info::Info;
pub(crate) use self::integer::Integer;
pub(crate) use self::key::Segments;
