#![doc = include_str!("../README.md")]
#![allow(clippy::missing_panics_doc, clippy::expect_used, reason = "a check panics where what it checks does not hold")]

mod answers;
mod config;
mod header;
mod key;
mod lines;
mod sled;
mod sqlite;
mod transaction;
mod url;

pub use self::answers::lines_answers;
pub use self::config::config;
pub use self::header::stored_header;
pub use self::key::key_text;
pub use self::lines::json_lines;
pub use self::sled::sled_files;
pub use self::sqlite::sqlite_row;
pub use self::transaction::transactions;
pub use self::url::store_url;
