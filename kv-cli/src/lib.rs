#![doc = include_str!("../README.md")]

mod app;
mod args;
pub mod bench;
mod command;
mod escape;
mod exit;
mod interrupt;
mod listen;
mod output;
mod pager;
mod progress;
mod random;
pub mod replay;
mod second_process;
pub mod transfer;

pub use self::app::main;
pub use self::exit::Failure;
pub use self::progress::Progress;
