#![doc = include_str!("../README.md")]

mod children;
mod folder;
mod port;
mod process;
mod secret;
mod shared;
mod wait;

pub mod cluster;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod tls;
