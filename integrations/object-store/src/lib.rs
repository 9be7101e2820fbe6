#![doc = include_str!("../README.md")]

mod head;
mod pieces;
mod store;
mod upload;

pub use self::store::KvObjectStore;
