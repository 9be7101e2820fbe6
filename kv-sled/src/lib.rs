#![doc = include_str!("../README.md")]

mod behind;
mod builder;
mod capabilities;
mod changes;
mod codec;
mod config;
mod database;
mod decide;
mod draft;
mod error;
mod folder;
mod gate;
mod group;
mod handle;
mod health;
mod ledger;
mod list;
mod medium;
mod named;
mod open;
mod operations;
mod request;
mod salvage;
mod seal;
mod stats;
mod store;
mod verify;
mod watchdog;
mod worker;

pub use self::builder::SledBuilder;
pub use self::capabilities::CAPABILITIES;
pub use self::config::{SCHEME, SledCheck, SledConfig, SledDurability};
pub use self::handle::SledStore;
pub use self::stats::SledStats;
pub use self::verify::{Verification, export, verify};
