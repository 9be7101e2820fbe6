//! The raw drivers, used as an application without anykv would use them.

mod fjall;
mod fred;
mod maps;
mod postgres;
mod redb;
mod redis;
mod remote;
mod sled;
mod sqlite;
mod sync;

pub(crate) use self::fjall::RawFjall;
pub(crate) use self::fred::RawFred;
pub(crate) use self::maps::{MutexMap, RawDashMap, RawMoka, RawQuickCache};
pub(crate) use self::postgres::{CONNECTIONS, RawPostgres};
pub(crate) use self::redb::RawRedb;
pub(crate) use self::redis::RawRedis;
pub(crate) use self::remote::RemoteSubject;
pub(crate) use self::sled::RawSled;
pub(crate) use self::sqlite::RawSqlite;
pub(crate) use self::sync::{SyncDriver, SyncSubject, poll_until_ready};
