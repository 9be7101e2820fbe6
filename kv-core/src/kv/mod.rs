//! The methods of [`Kv`] and the types that they return: builders, streams, batches and locks.

mod batch;
mod delete;
mod expiry;
pub(crate) mod handle;
mod increment;
mod lifecycle;
mod list;
mod load;
mod lock;
mod message;
mod read;
mod set;
mod set_many;
mod swap;
mod take;
mod touch;
mod transaction;
mod update;
mod watch;

pub use self::batch::Batch;
pub use self::delete::{ConditionalDelete, Delete};
pub(crate) use self::handle::Kv;
pub use self::increment::Increment;
pub use self::list::Listing;
pub use self::load::GetOrInsertWith;
pub use self::lock::{Acquire, Lock};
pub use self::set::{ConditionalSet, Set};
pub use self::set_many::SetMany;
pub use self::swap::CompareAndSwap;
pub use self::transaction::TransactionBuilder;
pub use self::update::Update;
pub use self::watch::Watch;
