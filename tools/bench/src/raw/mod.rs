//! The raw drivers, used as an application without anykv would use them.

#[cfg(feature = "others")]
mod fjall;
#[cfg(feature = "others")]
mod fred;
mod maps;
mod postgres;
#[cfg(feature = "others")]
mod redb;
mod redis;
mod remote;
mod sled;
mod sqlite;
mod sync;

#[cfg(feature = "others")]
pub(crate) use self::fjall::RawFjall;
#[cfg(feature = "others")]
pub(crate) use self::fred::RawFred;
pub(crate) use self::maps::{MutexMap, RawDashMap, RawMoka, RawQuickCache};
pub(crate) use self::postgres::{CONNECTIONS, RawPostgres};
#[cfg(feature = "others")]
pub(crate) use self::redb::RawRedb;
pub(crate) use self::redis::RawRedis;
pub(crate) use self::remote::RemoteSubject;
pub(crate) use self::sled::RawSled;
pub(crate) use self::sqlite::RawSqlite;
pub(crate) use self::sync::{SyncDriver, SyncSubject, poll_until_ready};
