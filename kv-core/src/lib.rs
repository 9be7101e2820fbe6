#![doc = include_str!("../README.md")]

pub mod adapter;
mod capabilities;
mod capability;
mod change_sink;
mod clock;
mod codec;
pub mod counter;
mod delegate;
mod durability;
mod encoding;
mod entry;
mod error;
mod expiry;
pub mod flight;
pub mod hub;
mod info;
mod key;
pub mod kv;
mod limits;
mod list;
mod message;
mod message_stream;
mod moment;
mod namespaced;
mod options;
mod pointers;
mod store;
pub mod stored;
mod transaction;
mod url;
mod url_options;
mod verification;
mod version;
mod watch;
mod watch_stream;

pub use bytes::Bytes;
pub use futures_util::future::BoxFuture;

pub use self::capabilities::{Capabilities, List, Reach, Transactions};
pub use self::capability::Capability;
pub use self::change_sink::{ChangeSink, Registration};
pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::codec::Codec;
pub use self::durability::{Durability, Survives};
pub use self::entry::Entry;
pub use self::error::{Error, ErrorKind, Operation, Result};
pub use self::expiry::{Deadline, Expires, Expiry, NewExpiry};
pub use self::info::{Reads, StoreInfo};
pub use self::key::{IntoKey, IntoPrefix, Key, KeyPrefix, Namespace};
pub use self::kv::handle::Kv;
pub use self::limits::Limits;
pub use self::list::{ListItem, ListPage, ListQuery};
pub use self::message::{Message, MessageEvent, MessageStream};
pub use self::message_stream::deliver;
pub use self::moment::Moment;
pub use self::namespaced::Namespaced;
pub use self::options::{
    DeleteOptions, DeleteOutcome, GetOptions, GetOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome, When,
};
pub use self::store::KvStore;
pub use self::transaction::{Check, CommitOutcome, Mutation, Transaction};
pub use self::url::{Opening, Registry, Scheme, StoreUrl, Verifying};
pub use self::verification::{TakeEntry, Verification};
pub use self::version::Version;
pub use self::watch::{GapReason, Initial, Report, WatchEvent, WatchQuery, WatchStream, WatchTarget};
pub use self::watch_stream::follow;
