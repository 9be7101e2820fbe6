//! The cases, a file for each subject.

mod basics;
mod cancel;
mod clear;
mod deadlines;
mod errors;
mod expired;
mod expiry;
mod injectivity;
mod keys;
mod list;
mod pages;
mod ranges;
mod restart;
mod sweep;
mod touch;
mod values;

use crate::case::Case;

/// Every case, in the order of reports.
pub(crate) const ALL: &[&[Case]] = &[
    basics::CASES,
    keys::CASES,
    values::CASES,
    expiry::CASES,
    expired::CASES,
    deadlines::CASES,
    touch::CASES,
    sweep::CASES,
    list::CASES,
    ranges::CASES,
    pages::CASES,
    clear::CASES,
    errors::CASES,
    cancel::CASES,
    restart::CASES,
    injectivity::CASES,
];
