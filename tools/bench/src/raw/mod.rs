//! The drivers without a store, as whoever needs no more would use them.

mod fjall;
mod fred;
mod inline;
mod maps;
mod postgres;
mod redb;
mod redis;
mod remote;
mod sled;
mod sqlite;

pub(crate) use self::fjall::RawFjall;
pub(crate) use self::fred::RawFred;
pub(crate) use self::inline::{Inline, InlineSubject, now};
pub(crate) use self::maps::{MutexMap, RawDashMap, RawMoka, RawQuickCache};
pub(crate) use self::postgres::{CONNECTIONS, RawPostgres};
pub(crate) use self::redb::RawRedb;
pub(crate) use self::redis::RawRedis;
pub(crate) use self::remote::RemoteSubject;
pub(crate) use self::sled::RawSled;
pub(crate) use self::sqlite::RawSqlite;
