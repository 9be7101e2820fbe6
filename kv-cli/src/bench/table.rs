//! Markdown tables with aligned columns, which are also readable as plain text.

use std::fmt;

use super::statistics::Spread;

/// A table. The first column has the names of the rows.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with these column headings.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// True if the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().chain([&self.columns]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let mut line = |cells: &[String]| {
            for (column, &width) in widths.iter().enumerate() {
                let cell = cells.get(column).map_or("", String::as_str);
                if column == 0 { write!(f, "| {cell:<width$} ")? } else { write!(f, "| {cell:>width$} ")? }
            }
            writeln!(f, "|")
        };
        line(&self.columns)?;
        let rule = |(column, width): (usize, &usize)| {
            if column == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) }
        };
        line(&widths.iter().enumerate().map(rule).collect::<Vec<_>>())?;
        self.rows.iter().try_for_each(|row| line(row))
    }
}

/// Formats a number with about three significant digits.
pub fn figure(number: f64) -> String {
    match number.abs() {
        1_000_000.0.. => format!("{:.2} M", number / 1e6),
        100_000.0.. => format!("{:.0} k", number / 1e3),
        1_000.0.. => format!("{:.1} k", number / 1e3),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Formats a median with its minimum and maximum.
pub fn spread(Spread { median, min, max }: Spread) -> String {
    format!("{} ({}–{})", figure(median), figure(min), figure(max))
}

/// Formats microseconds in a suitable unit.
pub fn micros(micros: f64) -> String {
    match micros {
        1_000_000.0.. => format!("{:.2} s", micros / 1e6),
        1_000.0.. => format!("{:.2} ms", micros / 1e3),
        100.0.. => format!("{micros:.0} µs"),
        1.0.. => format!("{micros:.1} µs"),
        _ => format!("{:.0} ns", micros * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["", "a store"]);
        table.row(["get", "1"]);
        table.row(["overwrite", "12 µs"]);
        let lines = [
            "|           | a store |",
            "| --------- | ------: |",
            "| get       |       1 |",
            "| overwrite |   12 µs |",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn figures_have_three_digits() {
        let formatted = [0.127, 1.5, 12.34, 123.4, 1_234.0, 123_456.0, 7_654_321.0].map(figure);
        assert_eq!(formatted, ["0.13", "1.50", "12.3", "123", "1.2 k", "123 k", "7.65 M"]);
        assert_eq!(
            [0.25, 12.34, 250.0, 1_500.0, 2e6].map(micros),
            ["250 ns", "12.3 µs", "250 µs", "1.50 ms", "2.00 s"]
        );
    }
}
