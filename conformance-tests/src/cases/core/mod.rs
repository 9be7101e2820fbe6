//! The core: keys, values, deadlines, errors, cancellation, and refusals of undeclared capabilities.

mod basics;
mod bounded_reads;
mod cancel;
mod concurrency;
mod deadlines;
pub(super) mod errors;
mod expired;
mod expiry;
mod injectivity;
pub(super) mod keys;
mod moments;
mod namespace_keys;
mod neighbours;
mod random;
mod reads;
mod refuses;
mod sweep;
mod touch;
mod values;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[
    basics::CASES,
    keys::CASES,
    values::CASES,
    expiry::CASES,
    expired::CASES,
    deadlines::CASES,
    moments::CASES,
    touch::CASES,
    sweep::CASES,
    namespace_keys::CASES,
    errors::CASES,
    cancel::CASES,
    injectivity::CASES,
    concurrency::CASES,
    neighbours::CASES,
    random::CASES,
    reads::CASES,
    bounded_reads::CASES,
    refuses::CASES,
];
