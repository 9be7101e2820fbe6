#![doc = include_str!("../README.md")]
#![allow(clippy::missing_panics_doc, clippy::expect_used, reason = "a check panics if it fails")]

mod config;
mod damage;
mod header;
mod key;
mod lines;
mod observer;
mod postgres;
mod redis;
mod replies;
mod sled;
mod sled_records;
mod sqlite;
mod transaction;
mod url;

pub use self::config::config;
pub use self::header::stored_header;
pub use self::key::key_text;
pub use self::lines::json_lines;
pub use self::postgres::postgres_row;
pub use self::redis::redis_entry;
pub use self::replies::lines_answers;
pub use self::sled::sled_files;
pub use self::sled_records::sled_records;
pub use self::sqlite::sqlite_row;
pub use self::transaction::transactions;
pub use self::url::store_url;
