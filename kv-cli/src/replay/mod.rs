//! Replaying recorded workloads against a store, beside a model that knows every right answer.
//!
//! What the model expects never comes from the recording, which saw the answers of another run: it follows from the
//! operations that this run has issued. All operations of one key stay with one client and are issued in order, so that
//! the model knows the only right answer to each, however many clients run side by side.
//!
//! # What is checked
//! - `get`: value and absence, and whether there is a deadline where the store tells deadlines. Near a deadline, and on a
//!   store that may evict, absence is accepted.
//! - `set` is stored, `delete` tells whether there was an entry, `cas` says yes or no as the model does.
//! - `list`: order, duplicates, the prefix, and every key whose last write was acknowledged before the list began and that
//!   nobody wrote until it had ended: it is there with its value, or not there. Keys that are written meanwhile may or may
//!   not be there. Keys that were never written must not. With one client every key is checked.
//! - At the end of a round every key is read again, and, without a prefill, everything is listed.
//!
//! A write whose outcome is `Indeterminate` may still be applied later, so its key is not checked from then on; the report
//! counts such answers.

mod client;
mod model;
mod prefill;
mod report;
mod run;
mod tally;
mod workload;

pub use self::prefill::Prefill;
pub use self::report::{Latency, Prefilled, Report, Round};
pub use self::run::{Replay, Settings};
pub use self::workload::Workload;
