//! What was measured.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::figures::{Percentiles, Spread};
use super::operation::Operation;
use super::table::{self, Table};
use crate::escape::{self, Layout};

/// Everything that was measured in one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// How many threads run at once where it was measured.
    pub cores: usize,
    /// How many rounds count.
    pub rounds: usize,
    /// The bytes of each value.
    pub value_bytes: usize,
    /// How the sides were filled.
    pub loads: Vec<Load>,
    /// The highest rates.
    pub closed: Vec<Closed>,
    /// Latencies at a fixed rate.
    pub open: Vec<Open>,
}

/// How one side was filled.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// The subject.
    pub subject: String,
    /// What an acknowledged write survives.
    pub durability: String,
    /// How many entries.
    pub entries: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The rates of one operation in a closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct Closed {
    /// What was done.
    pub operation: Operation,
    /// How many tasks did it side by side.
    pub tasks: usize,
    /// Who can do it; ratios are to the first of all sides.
    pub sides: Vec<ClosedSide>,
}

/// One side of a closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedSide {
    /// The subject.
    pub subject: String,
    /// How many entries it had.
    pub entries: u64,
    /// Calls a second.
    pub rate: Spread,
    /// Its rate over that of the first side, round by round; not for the first itself.
    pub ratio: Option<Spread>,
    /// How long calls took, by a sample.
    pub latency: Option<Percentiles>,
    /// What the backend counted, for each call.
    pub counted: BTreeMap<String, f64>,
}

/// The latencies of one operation at a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Open {
    /// What was done.
    pub operation: Operation,
    /// How often a second.
    pub rate: f64,
    /// Who can do it.
    pub sides: Vec<OpenSide>,
}

/// One side of an open loop.
#[derive(Debug, Clone, Serialize)]
pub struct OpenSide {
    /// The subject.
    pub subject: String,
    /// How many entries it had.
    pub entries: u64,
    /// From when a call was due until it was answered.
    pub latency: Percentiles,
}

impl Report {
    /// Takes what another run has measured into this one.
    pub fn extend(&mut self, other: Self) {
        let Self { cores, rounds, value_bytes, loads, closed, open } = other;
        (self.cores, self.rounds, self.value_bytes) = (cores, rounds, value_bytes);
        self.loads.extend(loads);
        self.closed.extend(closed);
        self.open.extend(open);
    }

    /// The sides, each once: subject and number of entries.
    pub fn sides(&self) -> Vec<(&str, u64)> {
        self.loads.iter().map(|load| (load.subject.as_str(), load.entries)).collect()
    }

    fn loads(&self) -> Table {
        let mut table = Table::new(["store", "entries", "loading", "an acknowledged write survives"]);
        for Load { subject, durability, entries, seconds } in &self.loads {
            #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
            let rate = table::figure(*entries as f64 / seconds);
            table.row([&shown(subject), &entries.to_string(), &format!("{seconds:.2} s, {rate}/s"), durability]);
        }
        table
    }

    fn columns(&self) -> impl Iterator<Item = String> {
        let has_sizes = self.has_sizes();
        let name = move |(subject, entries)| {
            if has_sizes { format!("{}, {entries}", shown(subject)) } else { shown(subject) }
        };
        self.sides().into_iter().map(name)
    }

    /// What a call costs as the store grows: a row for each store and measurement, a column for each size.
    fn growth(&self) -> Table {
        let mut sizes: Vec<u64> = self.loads.iter().map(|load| load.entries).collect();
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.len() < 2 {
            return Table::default();
        }
        let mut rows: Vec<(String, BTreeMap<u64, f64>)> = Vec::new();
        for closed in &self.closed {
            for side in &closed.sides {
                let row = format!("{}, {}", name(closed), shown(&side.subject));
                #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
                let micros = 1e6 * closed.tasks as f64 / side.rate.median;
                match rows.iter_mut().find(|(known, _)| *known == row) {
                    Some((_, costs)) => drop(costs.insert(side.entries, micros)),
                    None => rows.push((row, BTreeMap::from([(side.entries, micros)]))),
                }
            }
        }
        let head = sizes.iter().map(|size| format!("{size} entries"));
        let mut table = Table::new([String::new()].into_iter().chain(head).chain(["most by fewest".to_owned()]));
        for (row, costs) in rows {
            let cell = |size| costs.get(size).map_or_else(|| "—".to_owned(), |cost| table::micros(*cost));
            let grown = costs.values().next_back().zip(costs.values().next()).map(|(most, fewest)| most / fewest);
            let grown = grown.map_or_else(String::new, |grown| format!("{} ×", table::figure(grown)));
            table.row([row].into_iter().chain(sizes.iter().map(cell)).chain([grown]));
        }
        table
    }

    /// Whether a subject was measured at several sizes.
    pub fn has_sizes(&self) -> bool {
        self.loads.iter().any(|load| self.loads.iter().any(|other| other.entries != load.entries))
    }

    /// A row for each measurement, a cell for each side that it has.
    fn rows<'r, S: 'r>(
        &self,
        of: impl Fn(&S) -> (&str, u64),
        measured: impl IntoIterator<Item = (String, &'r [S])>,
        cell: impl Fn(&S) -> String,
    ) -> Table {
        let mut table = Table::new([String::new()].into_iter().chain(self.columns()));
        // Runs at several sizes have a measurement each, and one row together.
        let mut rows: Vec<(String, Vec<&S>)> = Vec::new();
        for (name, sides) in measured {
            match rows.iter_mut().find(|(known, _)| *known == name) {
                Some((_, row)) => row.extend(sides),
                None => rows.push((name, sides.iter().collect())),
            }
        }
        for (name, row) in rows {
            let cells = self.sides().into_iter().map(|wanted| {
                let side = row.iter().find(|side| of(side) == wanted);
                side.map_or_else(|| "—".to_owned(), |side| cell(side))
            });
            table.row([name].into_iter().chain(cells));
        }
        table
    }

    fn rates(&self) -> Table {
        let measured = self.closed.iter().map(|closed| (name(closed), closed.sides.as_slice()));
        self.rows(side_of, measured, |side: &ClosedSide| {
            let rate = table::spread(side.rate);
            side.ratio.map_or_else(|| rate.clone(), |ratio| format!("{rate} · {} ×", table::figure(ratio.median)))
        })
    }

    fn latencies(&self) -> Table {
        let name = |open: &Open| format!("{} at {:.0}/s", open.operation, open.rate);
        let measured = self.open.iter().map(|open| (name(open), open.sides.as_slice()));
        self.rows(
            |side: &OpenSide| (side.subject.as_str(), side.entries),
            measured,
            |side| {
                let Percentiles { samples: _, p50_us, p90_us: _, p99_us, p999_us, max_us } = side.latency;
                [p50_us, p99_us, p999_us, max_us].map(table::micros).join(" / ")
            },
        )
    }

    fn counted(&self) -> Table {
        let measured = self.closed.iter().filter(|closed| closed.sides.iter().any(|side| !side.counted.is_empty()));
        let measured = measured.map(|closed| (name(closed), closed.sides.as_slice()));
        self.rows(side_of, measured, |side: &ClosedSide| {
            let each: Vec<_> =
                side.counted.iter().map(|(what, each)| format!("{what} {}", table::figure(*each))).collect();
            each.join(", ")
        })
    }
}

/// Tables in Markdown, safe for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, rounds, value_bytes, .. } = self;
        writeln!(
            f,
            "{cores} cores, values of {value_bytes} bytes, medians of {rounds} rounds in turns (least–most)\n"
        )?;
        write!(f, "{}", self.loads())?;
        let parts = [
            ("Calls a second, each task waiting for its answer; × is against the first store", self.rates()),
            ("The time of a call as the store grows, by the medians", self.growth()),
            ("Latency at a fixed rate, from when a call was due: p50 / p99 / p99.9 / slowest", self.latencies()),
            ("What the backend counted for each call", self.counted()),
        ];
        for (title, table) in parts.iter().filter(|(_, table)| !table.is_empty()) {
            write!(f, "\n{title}:\n\n{table}")?;
        }
        Ok(())
    }
}

fn side_of(side: &ClosedSide) -> (&str, u64) {
    (&side.subject, side.entries)
}

fn name(Closed { operation, tasks, sides: _ }: &Closed) -> String {
    format!("{operation}, {tasks} task{}", if *tasks == 1 { "" } else { "s" })
}

fn shown(subject: &str) -> String {
    escape::text(subject, Layout::Line).replace('|', "\\|")
}
