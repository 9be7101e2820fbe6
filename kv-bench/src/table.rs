//! A Markdown table: a row for each thing that was measured, a column for each store.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;

use crate::rounds::Rate;

#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(crate) fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<C: Cell>(&mut self, what: impl Into<String>, cells: &[C]) {
        self.rows.push((what.into(), cells.iter().map(Cell::show).collect()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "|  | {} |", self.columns.join(" | "))?;
        writeln!(f, "| --- |{}", " ---: |".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|(what, cells)| writeln!(f, "| {what} | {} |", cells.join(" | ")))
    }
}

/// What stands in a cell.
pub(crate) trait Cell {
    fn show(&self) -> String;
}

impl Cell for Rate {
    fn show(&self) -> String {
        format!("{}/s ({}–{})", thousands(self.median), thousands(self.least), thousands(self.most))
    }
}

impl Cell for Duration {
    fn show(&self) -> String {
        format!("{self:.2?}")
    }
}

impl Cell for ByteSize {
    fn show(&self) -> String {
        self.display().si().to_string()
    }
}

impl Cell for String {
    fn show(&self) -> String {
        self.clone()
    }
}

/// A rate with three digits that mean something.
fn thousands(rate: f64) -> String {
    match rate {
        1_000_000.0.. => format!("{:.2} M", rate / 1e6),
        100_000.0.. => format!("{:.0} k", rate / 1e3),
        1_000.0.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}
