//! Benchmarks: throughput and latency of each operation on several stores, in interleaved rounds.
//!
//! # Method
//! - In each round every side runs for one time slice, so that noise of the machine affects all sides. The first round
//!   is a warm-up and is discarded. A figure is the median of the other rounds, with the minimum and maximum. Ratios
//!   are computed within each round.
//! - Keys are prepared and in random order, values are random and distinct. Identical values make some engines look
//!   many times faster than they are.
//! - A **closed loop** measures throughput: each task waits for its call before it starts the next call. An **open
//!   loop** measures latency: operations start at a fixed rate, and a latency is measured from the scheduled start of
//!   the operation. This avoids coordinated omission.
//! - Counters of the backend ([`Counters`]) are reported with the throughput. These counters often reveal the reason
//!   for a figure that is too good: writes that were never synced, or reads that were never sent.
//! - A wrong result ends the benchmark with an error.
//!
//! `kv bench` measures any store by its URL. The comparison of this workspace with raw drivers and other layers uses
//! the same [`run()`] with its own [`Subject`]s.

mod charts;
mod closed;
mod dataset;
mod open;
mod operation;
mod plot;
mod report;
mod run;
mod statistics;
mod store;
mod subject;
mod table;
mod traffic;

pub use self::charts::{Chart, charts};
pub use self::dataset::Dataset;
pub use self::operation::Operation;
pub use self::plot::{Bars, Curve, Curves, Group, Panel};
pub use self::report::{Closed, ClosedSide, Load, Open, OpenSide, Report};
pub use self::run::{Settings, closed_loop, load, open_loop, run};
pub use self::statistics::{Latencies, Percentiles, Series, Spread};
pub use self::store::{StoreSubject, TTL};
pub use self::subject::{Counters, Side, Subject};
pub use self::table::{Table, figure, micros, spread};
pub use self::traffic::Traffic;
pub use crate::random::Random;
