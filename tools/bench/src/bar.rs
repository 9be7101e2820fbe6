//! A bar: what is required of a ratio, and what it is.

use std::path::Path;

use kv_cli::bench::{Series, Spread, Table, figure, spread};

use crate::bars::NAMES;

/// What is required.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Required {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table of bars.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    id: &'static str,
    what: String,
    required: Required,
    measured: Option<Spread>,
    beside: String,
}

impl Bar {
    /// A ratio that was taken in each round.
    pub(crate) fn new(id: &'static str, what: impl Into<String>, required: Required, ratio: &Series) -> Self {
        Self { id, what: what.into(), required, measured: ratio.spread(), beside: String::new() }
    }

    /// A figure that was taken once.
    pub(crate) fn once(id: &'static str, what: impl Into<String>, required: Required, figure: f64) -> Self {
        Self::new(id, what, required, &Series(vec![figure]))
    }

    /// A ratio whose spread is known.
    pub(crate) fn spread(id: &'static str, what: impl Into<String>, required: Required, ratio: Option<Spread>) -> Self {
        Self { id, what: what.into(), required, measured: ratio, beside: String::new() }
    }

    /// What stands beside it: rates, counters.
    #[must_use]
    pub(crate) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }

    /// Tells it on stderr, while others are still measured; the table comes at the end.
    pub(crate) fn tell(&self) {
        let met = if self.is_met() { "met" } else { "not met" };
        let median = self.measured.map_or(f64::NAN, |measured| measured.median);
        eprintln!("{}: {}: {}, {met}", self.id, self.what, figure(median));
    }

    /// Whether the median is as required; a figure that was not taken meets nothing.
    pub(crate) fn is_met(&self) -> bool {
        self.is_within(1.0)
    }

    /// Whether the median is so many times as bad as required at most.
    pub(crate) fn is_within(&self, margin: f64) -> bool {
        self.measured.is_some_and(|Spread { median, .. }| match self.required {
            Required::AtMost(most) => median <= most * margin,
            Required::AtLeast(least) => median >= least / margin,
        })
    }
}

/// Cells of the table, from the bar's name on.
type Row = Vec<String>;

fn row(bar: &Bar) -> Row {
    let Bar { id, what, required, measured, beside } = bar;
    let required = match required {
        Required::AtMost(most) => format!("≤ {}", figure(*most)),
        Required::AtLeast(least) => format!("≥ {}", figure(*least)),
    };
    let measured = match measured {
        Some(Spread { median, min, max }) if min.to_bits() == max.to_bits() => figure(*median),
        Some(measured) => spread(*measured),
        None => "not measured".to_owned(),
    };
    let met = if bar.is_met() { "yes" } else { "**no**" };
    vec![(*id).to_owned(), what.clone(), required, measured, met.to_owned(), beside.clone()]
}

/// The table, those that are not met included.
pub(crate) fn table(bars: &[Bar]) -> Table {
    of(bars.iter().map(row))
}

fn of(rows: impl IntoIterator<Item = Row>) -> Table {
    let mut table = Table::new(["bar", "what", "required", "measured", "met", "beside it"]);
    rows.into_iter().for_each(|row| table.row(row));
    table
}

/// Writes the bars into the table of a file, between these lines; those that were not measured now stay as they were.
pub(crate) fn keep(file: &Path, bars: &[Bar]) {
    const LINES: [&str; 2] = ["<!-- bars -->\n", "<!-- /bars -->"];
    let text = std::fs::read_to_string(file).unwrap();
    let (before, rest) = text.split_once(LINES[0]).unwrap();
    let (old, after) = rest.split_once(LINES[1]).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Row>();
    let is_old = |row: &Row| row[0].starts_with("bar-") && !bars.iter().any(|bar| bar.id == row[0]);
    let mut rows: Vec<Row> = old.lines().map(cells).filter(is_old).chain(bars.iter().map(row)).collect();
    rows.sort_by_key(|row| NAMES.iter().position(|name| *name == row[0]));
    let [begin, end] = LINES;
    std::fs::write(file, format!("{before}{begin}\n{}\n{end}{after}", of(rows))).unwrap();
}
