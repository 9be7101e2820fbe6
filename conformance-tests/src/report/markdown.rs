//! The matrix of stores and their levels and capabilities, as Markdown.

use kv_core::{Capabilities, Capability, Durability, List, Reach, Transactions};

use super::{Counts, Report};
use crate::case::Level;

/// A table with a column per store: the number of cases that it passed in each level, and its declared capabilities.
///
/// The cell of a level is `**n failed**` if some of its cases failed, `—` if none ran, `n of m` if some were skipped,
/// and `n` if all passed.
pub fn matrix(reports: &[Report]) -> String {
    let mut table = row("", reports.iter().map(|report| format!("`{}`", report.store)));
    table.push_str(&row("---", reports.iter().map(|_| ":---:".to_owned())));
    for &level in Level::ALL {
        table.push_str(&row(&level.to_string(), reports.iter().map(|report| cell(report.counts(Some(level))))));
    }
    for (name, format) in DECLARED {
        table.push_str(&row(name, reports.iter().map(|report| format(&report.capabilities))));
    }
    table
}

/// A function that formats one capability of a store.
type Format = fn(&Capabilities) -> String;

/// The capabilities in the table, below the levels.
const DECLARED: &[(&str, Format)] = &[
    ("list", |store| {
        match store.list {
            List::Native => "by index",
            List::Emulated => "by scan",
            _ => "—",
        }
        .to_owned()
    }),
    ("transactions", |store| match store.transactions {
        Transactions::Any => "any keys".to_owned(),
        Transactions::WithinFirst(segments) => format!("within first {segments}"),
        _ => "—".to_owned(),
    }),
    ("versions", |store| yes(store.has(Capability::Versions))),
    ("touch", |store| yes(store.has(Capability::Touch))),
    ("watch reaches", |store| reach(store.watch)),
    ("messages reach", |store| reach(store.messages)),
    ("a write survives", |store| match store.durability {
        Durability::VOLATILE => "nothing".to_owned(),
        durability => durability.to_string(),
    }),
    ("may evict", |store| yes(store.may_evict)),
];

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    cells.fold(format!("| {name} |"), |row, cell| format!("{row} {cell} |")) + "\n"
}

fn cell(counts: Counts) -> String {
    match counts {
        Counts { failed: 1.., .. } => format!("**{} failed**", counts.failed),
        Counts { passed: 0, .. } => "—".to_owned(),
        Counts { skipped: 0, passed, .. } => passed.to_string(),
        Counts { skipped, passed, .. } => format!("{passed} of {}", passed + skipped),
    }
}

fn yes(is_declared: bool) -> String {
    if is_declared { "yes" } else { "—" }.to_owned()
}

fn reach(reach: Reach) -> String {
    match reach {
        Reach::Process => "this process",
        Reach::Shared => "all processes",
        _ => "—",
    }
    .to_owned()
}
