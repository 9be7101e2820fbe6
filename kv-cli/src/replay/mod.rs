//! Replays recorded workloads against a store, and checks every result against a model.
//!
//! The expected results never come from the recording, which has the results of another run. The model computes them
//! from the operations of this run. One client issues all operations of a key, in order. Therefore the model knows the
//! only correct result of each operation, with any number of concurrent clients.
//!
//! # Checks
//! - `get`: the value or its absence, and the presence of a deadline if the store reports deadlines. Near a deadline,
//!   and on a store that may evict, absence is accepted.
//! - `set` is stored. `delete` reports whether an entry existed. `cas` succeeds if and only if it succeeds in the
//!   model.
//! - `list`: order, duplicates, the prefix, and every stable key. A key is stable if its last write was acknowledged
//!   before the list began and no write of the key began until the list ended. Keys that are written concurrently may
//!   or may not be listed. Keys that were never written must not be listed. With one client every key is stable.
//! - At the end of a round every key is read again. Without a prefill all entries are also listed.
//!
//! A write whose outcome is `Indeterminate` may still be applied later, so its key is not checked from then on. The
//! report counts the unchecked results.

mod client;
mod model;
mod prefill;
mod report;
mod run;
mod stats;
mod workload;

pub use self::prefill::Prefill;
pub use self::report::{Latency, Prefilled, Report, Round};
pub use self::run::{Replay, Settings};
pub use self::workload::Workload;
