//! The cases, a folder for each level and a file for each subject.

mod batch;
mod conditions;
mod core;
mod counters;
mod durable;
mod list;
mod messages;
mod shared;
mod transactions;
mod watch;

use crate::case::Case;

/// Every case, in the order of reports: levels, files, cases.
pub(crate) const ALL: &[&[&[Case]]] = &[
    core::CASES,
    list::CASES,
    conditions::CASES,
    transactions::CASES,
    counters::CASES,
    batch::CASES,
    watch::CASES,
    messages::CASES,
    durable::CASES,
    shared::CASES,
];
