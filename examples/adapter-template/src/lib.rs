#![doc = include_str!("../README.md")]

mod entries;
mod journal;
mod store;

pub use self::store::{CAPABILITIES, JournalStore};
