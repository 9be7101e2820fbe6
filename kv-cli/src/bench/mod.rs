//! Measuring stores: rates and latencies of each operation, beside one another, in turns.
//!
//! # How it is measured
//! - What is compared takes its turn in each round, so that a noisy machine is noisy to all. The first round is thrown away; a
//!   figure is the median of the others, told with the least and the most. Ratios are taken within each round.
//! - Keys are prepared and in random order, values are random and distinct: identical values make some engines look many
//!   times better than they are.
//! - A **closed loop** of tasks that wait for their answers finds the highest rate. An **open loop** begins operations at fixed
//!   times and counts latencies from when each was due, without coordinated omission.
//! - What a backend counts by itself ([`Counters`]) stands beside the rates, because a figure that is too good often is one of
//!   something else: writes that were never synced, reads that were never sent.
//! - An answer that the operation cannot have ends the measurement with an error.
//!
//! `kv bench` measures any store by its URL. The workspace's own comparison with raw drivers and other layers uses the same
//! [`run()`] with [`Subject`]s of its own.

mod charts;
mod closed;
mod dataset;
mod figures;
mod open;
mod operation;
mod plot;
mod report;
mod run;
mod store;
mod subject;
mod table;
mod traffic;

pub use self::charts::{Chart, charts};
pub use self::dataset::Dataset;
pub use self::figures::{Latencies, Percentiles, Series, Spread};
pub use self::operation::Operation;
pub use self::plot::{Bars, Curve, Curves, Group, Panel};
pub use self::report::{Closed, ClosedSide, Load, Open, OpenSide, Report};
pub use self::run::{Settings, closed_loop, load, open_loop, run};
pub use self::store::{StoreSubject, TTL};
pub use self::subject::{Counters, Side, Subject};
pub use self::table::{Table, figure, micros, spread};
pub use self::traffic::Traffic;
pub use crate::random::Random;
