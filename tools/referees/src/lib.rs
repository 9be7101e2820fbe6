#![doc = include_str!("../README.md")]

mod database;
mod program;
mod stores;

pub use libtest_mimic::Failed;
pub use tokio::runtime::Runtime;

pub use self::database::Database;
pub use self::program::{Referee, main};
