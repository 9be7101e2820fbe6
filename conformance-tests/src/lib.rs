#![doc = include_str!("../README.md")]

mod activity;
mod alternating;
mod backend;
mod case;
mod cases;
mod context;
mod disk;
mod failure;
#[cfg(feature = "faulty")]
pub mod faulty;
mod folder;
mod fresh;
mod front;
mod history;
mod layer;
mod link;
mod mortal;
mod polls;
mod process;
mod recorder;
mod report;
mod run;
mod script;
mod settled;
mod sink;
mod suite;
mod switch;
mod table;
mod tasks;
mod watcher;

pub use self::case::{Case, Level, Need};
pub use self::failure::Failure;
pub use self::fresh::Fresh;
pub use self::report::{CaseReport, Counts, Outcome, Report, matrix};
pub use self::suite::Suite;
