#![doc = include_str!("../README.md")]

mod chunks;
mod error;
mod header;
mod store;
mod upload;

pub use self::store::KvObjectStore;
