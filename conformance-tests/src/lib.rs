#![doc = include_str!("../README.md")]

mod case;
mod cases;
mod context;
mod failure;
pub mod faulty;
mod front;
mod history;
mod link;
mod process;
mod recorder;
mod report;
mod run;
mod script;
mod suite;
mod tasks;
mod turns;
mod watcher;

pub use self::case::{Case, Level, Need};
pub use self::failure::Failure;
pub use self::report::{CaseReport, Counts, Outcome, Report, matrix};
pub use self::suite::{Fresh, Suite};
