//! The report of a benchmark.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::operation::Operation;
use super::statistics::{Percentiles, Spread};
use super::table::{self, Table};
use crate::escape::{self, Layout};

/// The results of a benchmark.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The available parallelism of the machine, in threads.
    pub cores: usize,
    /// The number of measured rounds.
    pub rounds: usize,
    /// The length of each value in bytes.
    pub value_bytes: usize,
    /// The initial load of each side.
    pub loads: Vec<Load>,
    /// The throughput in a closed loop.
    pub closed: Vec<Closed>,
    /// The latencies in an open loop, at a fixed rate.
    pub open: Vec<Open>,
}

/// The initial load of one side: the write of all its entries.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// The name of the subject.
    pub subject: String,
    /// The failures that an acknowledged write survives.
    pub durability: String,
    /// The number of loaded entries.
    pub entries: u64,
    /// The duration of the load in seconds.
    pub seconds: f64,
}

/// The throughput of one operation in a closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct Closed {
    /// The operation.
    pub operation: Operation,
    /// The number of concurrent tasks.
    pub tasks: usize,
    /// The sides that support the operation. Ratios are relative to the first side of the benchmark.
    pub sides: Vec<ClosedSide>,
}

/// One side of a closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedSide {
    /// The name of the subject.
    pub subject: String,
    /// The number of loaded entries.
    pub entries: u64,
    /// The number of calls per second.
    pub rate: Spread,
    /// The ratio of the rate of this side to the rate of the first side, computed within each round. `None` for the
    /// first side.
    pub ratio: Option<Spread>,
    /// The latencies of a sample of the calls.
    pub latency: Option<Percentiles>,
    /// The counters of the backend, per call.
    pub counted: BTreeMap<String, f64>,
}

/// The latencies of one operation at a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Open {
    /// The operation.
    pub operation: Operation,
    /// The number of operations per second.
    pub rate: f64,
    /// The sides that support the operation.
    pub sides: Vec<OpenSide>,
}

/// One side of an open loop.
#[derive(Debug, Clone, Serialize)]
pub struct OpenSide {
    /// The name of the subject.
    pub subject: String,
    /// The number of loaded entries.
    pub entries: u64,
    /// The time from the scheduled start of a call until its result.
    pub latency: Percentiles,
}

impl Report {
    /// Appends the results of another run.
    pub fn extend(&mut self, other: Self) {
        let Self { cores, rounds, value_bytes, loads, closed, open } = other;
        (self.cores, self.rounds, self.value_bytes) = (cores, rounds, value_bytes);
        self.loads.extend(loads);
        self.closed.extend(closed);
        self.open.extend(open);
    }

    /// Returns the sides by subject and number of entries.
    pub fn sides(&self) -> Vec<(&str, u64)> {
        self.loads.iter().map(|load| (load.subject.as_str(), load.entries)).collect()
    }

    fn loads(&self) -> Table {
        let mut table = Table::new(["store", "entries", "load", "an acknowledged write survives"]);
        for Load { subject, durability, entries, seconds } in &self.loads {
            #[expect(clippy::cast_precision_loss, reason = "a count of entries")]
            let rate = table::figure(*entries as f64 / seconds);
            table.row([&escaped(subject), &entries.to_string(), &format!("{seconds:.2} s, {rate}/s"), durability]);
        }
        table
    }

    fn columns(&self) -> impl Iterator<Item = String> {
        let has_sizes = self.has_sizes();
        let name = move |(subject, entries)| {
            if has_sizes { format!("{}, {entries}", escaped(subject)) } else { escaped(subject) }
        };
        self.sides().into_iter().map(name)
    }

    /// Returns the table of costs by size: a row for each store and measurement, a column for each size.
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
                let row = format!("{}, {}", name(closed), escaped(&side.subject));
                #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
                let micros = 1e6 * closed.tasks as f64 / side.rate.median;
                match rows.iter_mut().find(|(known, _)| *known == row) {
                    Some((_, costs)) => drop(costs.insert(side.entries, micros)),
                    None => rows.push((row, BTreeMap::from([(side.entries, micros)]))),
                }
            }
        }
        let headings = sizes.iter().map(|size| format!("{size} entries"));
        let mut table = Table::new([String::new()].into_iter().chain(headings).chain(["growth".to_owned()]));
        for (row, costs) in rows {
            let cell = |size| costs.get(size).map_or_else(|| "—".to_owned(), |cost| table::micros(*cost));
            let growth = costs.values().next_back().zip(costs.values().next()).map(|(last, first)| last / first);
            let growth = growth.map_or_else(String::new, |growth| format!("{} ×", table::figure(growth)));
            table.row([row].into_iter().chain(sizes.iter().map(cell)).chain([growth]));
        }
        table
    }

    /// True if the report has several sizes.
    pub fn has_sizes(&self) -> bool {
        self.loads.iter().any(|load| self.loads.iter().any(|other| other.entries != load.entries))
    }

    /// Returns a table with a row for each measurement and a cell for each side.
    fn rows<'r, S: 'r>(
        &self,
        key: impl Fn(&S) -> (&str, u64),
        measured: impl IntoIterator<Item = (String, &'r [S])>,
        cell: impl Fn(&S) -> String,
    ) -> Table {
        let mut table = Table::new([String::new()].into_iter().chain(self.columns()));
        // The measurements with different numbers of entries share a row.
        let mut rows: Vec<(String, Vec<&S>)> = Vec::new();
        for (name, sides) in measured {
            match rows.iter_mut().find(|(known, _)| *known == name) {
                Some((_, row)) => row.extend(sides),
                None => rows.push((name, sides.iter().collect())),
            }
        }
        for (name, row) in rows {
            let cells = self.sides().into_iter().map(|wanted| {
                let side = row.iter().find(|side| key(side) == wanted);
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

    fn counters(&self) -> Table {
        let measured = self.closed.iter().filter(|closed| closed.sides.iter().any(|side| !side.counted.is_empty()));
        let measured = measured.map(|closed| (name(closed), closed.sides.as_slice()));
        self.rows(side_of, measured, |side: &ClosedSide| {
            let counters: Vec<_> =
                side.counted.iter().map(|(name, per_call)| format!("{name} {}", table::figure(*per_call))).collect();
            counters.join(", ")
        })
    }
}

/// The report as Markdown tables, safe for a terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, rounds, value_bytes, .. } = self;
        writeln!(
            f,
            "{cores} cores, values of {value_bytes} bytes, medians of {rounds} interleaved rounds (min–max)\n"
        )?;
        write!(f, "{}", self.loads())?;
        let parts = [
            ("Throughput in calls per second, closed loop; × is the ratio to the first store", self.rates()),
            (
                "Time per call by number of entries, from the medians; growth is from the fewest to the most entries",
                self.growth(),
            ),
            ("Latency at a fixed rate, from the scheduled start: p50 / p99 / p99.9 / max", self.latencies()),
            ("Counters of the backend, per call", self.counters()),
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

fn escaped(subject: &str) -> String {
    escape::text(subject, Layout::Line).replace('|', "\\|")
}
