//! A performance bar: a ratio, its required value and its measured value.

use std::path::Path;

use kv_cli::bench::{Series, Spread, Table, figure, spread};

use crate::bars::NAMES;

/// The required value of a bar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Required {
    AtMost(f64),
    AtLeast(f64),
}

/// One row of the table of bars.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    id: &'static str,
    label: String,
    required: Required,
    measured: Option<Spread>,
    details: String,
}

impl Bar {
    /// Creates a bar for a ratio that was measured in each round.
    pub(crate) fn new(id: &'static str, label: impl Into<String>, required: Required, ratio: &Series) -> Self {
        Self { id, label: label.into(), required, measured: ratio.spread(), details: String::new() }
    }

    /// Creates a bar for a figure that was measured once.
    pub(crate) fn once(id: &'static str, label: impl Into<String>, required: Required, figure: f64) -> Self {
        Self::new(id, label, required, &Series(vec![figure]))
    }

    /// Creates a bar for the spread of a ratio. The ratio is `None` if it was not measured.
    pub(crate) fn spread(
        id: &'static str,
        label: impl Into<String>,
        required: Required,
        ratio: Option<Spread>,
    ) -> Self {
        Self { id, label: label.into(), required, measured: ratio, details: String::new() }
    }

    /// Adds the details, such as throughput and counters.
    #[must_use]
    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Prints the bar on stderr while other bars are still measured. The table is printed at the end.
    pub(crate) fn log(&self) {
        let met = if self.is_met() { "met" } else { "not met" };
        let median = self.measured.map_or(f64::NAN, |measured| measured.median);
        eprintln!("{}: {}: {}, {met}", self.id, self.label, figure(median));
    }

    /// True if the median meets the requirement. False if nothing was measured.
    pub(crate) fn is_met(&self) -> bool {
        self.is_within(1.0)
    }

    /// True if the median is at most `margin` times worse than required.
    pub(crate) fn is_within(&self, margin: f64) -> bool {
        self.measured.is_some_and(|Spread { median, .. }| match self.required {
            Required::AtMost(max) => median <= max * margin,
            Required::AtLeast(min) => median >= min / margin,
        })
    }
}

/// The cells of a row.
type Row = Vec<String>;

fn row(bar: &Bar) -> Row {
    let Bar { id, label, required, measured, details } = bar;
    let required = match required {
        Required::AtMost(max) => format!("≤ {}", figure(*max)),
        Required::AtLeast(min) => format!("≥ {}", figure(*min)),
    };
    let measured = match measured {
        Some(Spread { median, min, max }) if min.to_bits() == max.to_bits() => figure(*median),
        Some(measured) => spread(*measured),
        None => "not measured".to_owned(),
    };
    let met = if bar.is_met() { "yes" } else { "**no**" };
    vec![(*id).to_owned(), label.clone(), required, measured, met.to_owned(), details.clone()]
}

/// Returns the table of the bars, including bars that are not met.
pub(crate) fn table(bars: &[Bar]) -> Table {
    to_table(bars.iter().map(row))
}

fn to_table(rows: impl IntoIterator<Item = Row>) -> Table {
    let mut table = Table::new(["bar", "measurement", "required", "measured", "met", "details"]);
    rows.into_iter().for_each(|row| table.row(row));
    table
}

/// Updates the table of a file, between the marker lines. Keeps the rows of bars that were not measured in this run.
pub(crate) fn update_table(file: &Path, bars: &[Bar]) {
    const MARKERS: [&str; 2] = ["<!-- bars -->\n", "<!-- /bars -->"];
    let text = std::fs::read_to_string(file).unwrap();
    let (before, rest) = text.split_once(MARKERS[0]).unwrap();
    let (old, after) = rest.split_once(MARKERS[1]).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Row>();
    let is_old = |row: &Row| row[0].starts_with("bar-") && !bars.iter().any(|bar| bar.id == row[0]);
    let mut rows: Vec<Row> = old.lines().map(cells).filter(is_old).chain(bars.iter().map(row)).collect();
    rows.sort_by_key(|row| NAMES.iter().position(|name| *name == row[0]));
    let [begin, end] = MARKERS;
    std::fs::write(file, format!("{before}{begin}\n{}\n{end}{after}", to_table(rows))).unwrap();
}
