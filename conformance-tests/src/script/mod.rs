//! Scripts of random steps: run on a store and on a model of the contract, and shortened if the answers differ.

mod answer;
mod caller;
mod code;
mod compare;
mod events;
mod judge;
mod memory;
mod messages;
mod model;
mod reports;
mod runner;
mod search;
mod step;
mod step_kinds;

pub(crate) use self::compare::compare;
pub(crate) use self::search::{search, search_on};
pub(crate) use self::step_kinds::StepKinds;
