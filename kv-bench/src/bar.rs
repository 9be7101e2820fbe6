//! A bar: what is required of a ratio, and what it is.

use kv_cli::bench::{Series, Spread, Table, figure, spread};

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
        self.measured.is_some_and(|Spread { median, .. }| match self.required {
            Required::AtMost(most) => median <= most,
            Required::AtLeast(least) => median >= least,
        })
    }
}

/// The table, those that are not met included.
pub(crate) fn table(bars: &[Bar]) -> Table {
    let mut table = Table::new(["bar", "what", "required", "measured", "met", "beside it"]);
    for bar in bars {
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
        table.row([*id, what, &required, &measured, if bar.is_met() { "yes" } else { "**no**" }, beside]);
    }
    table
}
