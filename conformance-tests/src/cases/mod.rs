//! The cases, a file for each subject.

mod atomicity;
mod basics;
mod batch;
mod cancel;
mod clear;
mod concurrency;
mod conditional_deletes;
mod conditions;
mod counters;
mod crash;
mod crash_states;
mod damage;
mod deadlines;
mod errors;
mod expired;
mod expiry;
mod injectivity;
mod keys;
mod large_batches;
mod large_transactions;
mod list;
mod long_lists;
mod messages;
mod moments;
mod namespace_keys;
mod namespaces;
mod neighbours;
mod outage;
mod pages;
mod processes;
mod races;
mod random;
mod ranges;
mod refuses;
mod restart;
mod restart_handles;
mod shared;
mod sweep;
mod touch;
mod transactions;
mod tree;
mod values;
mod versions;
mod watch;
mod watch_loss;
mod watch_moments;
mod watch_paths;
mod watch_snapshot;
mod watch_targets;

use crate::case::Case;

/// Every case, in the order of reports.
pub(crate) const ALL: &[&[Case]] = &[
    basics::CASES,
    keys::CASES,
    values::CASES,
    expiry::CASES,
    expired::CASES,
    deadlines::CASES,
    moments::CASES,
    touch::CASES,
    sweep::CASES,
    list::CASES,
    ranges::CASES,
    pages::CASES,
    long_lists::CASES,
    clear::CASES,
    namespaces::CASES,
    namespace_keys::CASES,
    errors::CASES,
    cancel::CASES,
    restart::CASES,
    crash::CASES,
    damage::CASES,
    injectivity::CASES,
    conditions::CASES,
    conditional_deletes::CASES,
    versions::CASES,
    races::CASES,
    transactions::CASES,
    atomicity::CASES,
    large_transactions::CASES,
    counters::CASES,
    batch::CASES,
    large_batches::CASES,
    watch::CASES,
    watch_paths::CASES,
    watch_targets::CASES,
    watch_snapshot::CASES,
    watch_moments::CASES,
    watch_loss::CASES,
    messages::CASES,
    concurrency::CASES,
    neighbours::CASES,
    shared::CASES,
    processes::CASES,
    outage::CASES,
    random::CASES,
    refuses::CASES,
];
