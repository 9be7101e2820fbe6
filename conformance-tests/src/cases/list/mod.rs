//! Lists, `clear` and namespaces.

mod clear;
mod entries;
mod list_cost;
mod long_lists;
mod namespaces;
mod pages;
mod ranges;
pub(super) mod tree;

use crate::case::Case;

/// The cases of this folder, a list for each file.
pub(super) const CASES: &[&[Case]] = &[
    entries::CASES,
    ranges::CASES,
    pages::CASES,
    long_lists::CASES,
    list_cost::CASES,
    clear::CASES,
    namespaces::CASES,
];
