#![doc = include_str!("../README.md")]

mod database;
mod objects;

pub use self::database::Database;
pub use self::objects::Objects;
