#![doc = include_str!("../README.md")]

mod capability;
mod clock;
mod codec;
pub mod counter;
mod delegate;
mod encoding;
mod entry;
mod error;
mod expiry;
pub mod hub;
mod key;
pub mod kv;
mod list;
mod message;
mod namespaced;
mod options;
mod store;
pub mod stored;
mod transaction;
mod url;
mod verification;
mod version;
mod watch;

pub use bytes::Bytes;
pub use futures_util::future::BoxFuture;

pub use self::capability::{
    Capabilities, Capability, Durability, Limits, List, Reach, StoreInfo, Survives, Transactions,
};
pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::codec::Codec;
pub use self::entry::Entry;
pub use self::error::{Error, ErrorKind, Operation, Result};
pub use self::expiry::{Deadline, Expires, Expiry, NewExpiry};
pub use self::key::{IntoKey, IntoPrefix, Key, KeyPrefix, Namespace};
pub use self::kv::handle::Kv;
pub use self::list::{ListItem, ListPage, ListQuery};
pub use self::message::{Message, MessageEvent, MessageStream, deliver};
pub use self::namespaced::Namespaced;
pub use self::options::{DeleteOptions, DeleteOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome, When};
pub use self::store::KvStore;
pub use self::transaction::{Check, CommitOutcome, Mutation, Transaction};
pub use self::url::{Opening, Registry, Scheme, StoreUrl, Verifying};
pub use self::verification::{TakeEntry, Verification};
pub use self::version::Version;
pub use self::watch::{GapReason, Initial, WatchEvent, WatchQuery, WatchStream, WatchTarget, follow};
