//! The JSON forms of keys, values, entries, results and events. The protocol, the output of `kv` and export files share
//! them.

mod batch;
mod deadline;
mod entry;
mod error;
mod event;
mod info;
mod integer;
mod key;
mod outcome;
mod page;
mod value;

pub use self::deadline::{ExpiresAt, Unknown, expiry_at_unix, unix_millis};
pub use self::entry::Entry;
pub use self::event::{Event, Reason};
pub use self::key::segments;
pub use self::value::{Encoding, Value};

pub(crate) use self::batch::Batch;
pub(crate) use self::entry::{decode_entry, encode_entry};
pub(crate) use self::error::Failure;
pub(crate) use self::event::{FromStreamEvent, StreamEvent};
pub(crate) use self::info::Info;
pub(crate) use self::integer::Integer;
pub(crate) use self::key::Segments;
pub(crate) use self::outcome::{Commit, Delete, Set};
pub(crate) use self::page::Page;
