//! The charts of a report.

use super::operation::Operation;
use super::plot::{Bars, Curve, Curves, Group, Panel};
use super::report::{Closed, ClosedSide, Open, Report};
use super::table::figure;

/// A chart and its file name.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The file name, such as `throughput.svg`.
    pub file: &'static str,
    /// The SVG text.
    pub svg: String,
}

/// Returns the charts of throughput, latency and scaling for which the report has data.
pub fn charts(report: &Report) -> Vec<Chart> {
    [throughput(report), latency(report), scaling(report)].into_iter().flatten().collect()
}

/// Returns the names of the sides, with their sizes if there are several sizes.
fn series(report: &Report) -> Vec<String> {
    let sides = report.sides();
    let name = |&(subject, entries): &(&str, u64)| {
        if report.has_sizes() { format!("{subject}, {}", size(entries)) } else { subject.to_owned() }
    };
    sides.iter().map(name).collect()
}

fn throughput(report: &Report) -> Option<Chart> {
    let sides = report.sides();
    let mut groups: Vec<Group> = Vec::new();
    for Closed { operation, tasks, sides: measured } in &report.closed {
        let name = format!("{operation} × {tasks}");
        let value = |wanted: &(&str, u64)| {
            let side = measured.iter().find(|side| (side.subject.as_str(), side.entries) == *wanted)?;
            Some(side.rate.median)
        };
        let values = sides.iter().map(value);
        match groups.iter_mut().find(|group| group.name == name) {
            // The same measurement with another size.
            Some(group) => {
                group.values = group.values.iter().copied().zip(values).map(|(old, new)| old.or(new)).collect();
            }
            None => groups.push(Group { name, values: values.collect() }),
        }
    }
    let title = format!("Calls per second by operation and number of tasks, values of {} bytes", report.value_bytes);
    let bars = Bars { title, series: series(report), groups };
    (!bars.groups.is_empty()).then(|| Chart { file: "throughput.svg", svg: bars.to_svg() })
}

fn latency(report: &Report) -> Option<Chart> {
    let sides = report.sides();
    let mut panels: Vec<Panel> = Vec::new();
    for Open { operation, rate, sides: measured } in &report.open {
        let title = format!("{operation} at {}/s", figure(*rate));
        let curves = measured.iter().filter_map(|side| {
            let wanted = (side.subject.as_str(), side.entries);
            let latency = side.latency;
            let points = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
            let series = sides.iter().position(|side| *side == wanted)?;
            Some(Curve { series, points: points.into_iter().enumerate().collect() })
        });
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.curves.extend(curves),
            None => panels.push(Panel { title, curves: curves.collect() }),
        }
    }
    let title = "Latency at a fixed rate, from the scheduled start of a call until its result".to_owned();
    let ticks = ["p50", "p90", "p99", "p99.9", "max"].map(str::to_owned).to_vec();
    let curves = Curves { title, series: series(report), ticks, panels };
    (!curves.panels.is_empty()).then(|| Chart { file: "latency.svg", svg: curves.to_svg() })
}

/// Returns the chart of the time per call by number of entries, for the smallest number of tasks.
fn scaling(report: &Report) -> Option<Chart> {
    let mut sizes: Vec<u64> = report.loads.iter().map(|load| load.entries).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut subjects: Vec<String> = Vec::new();
    for load in &report.loads {
        if !subjects.contains(&load.subject) {
            subjects.push(load.subject.clone());
        }
    }
    let fewest = report.closed.iter().map(|closed| closed.tasks).min()?;
    if sizes.len() < 2 {
        return None;
    }
    let panel = |operation: Operation| {
        let measured = report.closed.iter().filter(|closed| closed.operation == operation && closed.tasks == fewest);
        let measured: Vec<&ClosedSide> = measured.flat_map(|closed| &closed.sides).collect();
        let curves = subjects.iter().enumerate().map(|(series, subject)| {
            let point = |(tick, size): (usize, &u64)| {
                let side = measured.iter().find(|side| side.subject == *subject && side.entries == *size)?;
                #[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
                let micros = 1e6 * fewest as f64 / side.rate.median;
                Some((tick, micros))
            };
            Curve { series, points: sizes.iter().enumerate().filter_map(point).collect() }
        });
        Panel { title: operation.name().to_owned(), curves: curves.filter(|curve| !curve.points.is_empty()).collect() }
    };
    let panels = Operation::ALL.into_iter().map(panel).filter(|panel| !panel.curves.is_empty()).collect();
    let title = format!("Time per call by number of entries, {fewest} task{}", if fewest == 1 { "" } else { "s" });
    let ticks = sizes.iter().map(|&entries| size(entries)).collect();
    Some(Chart { file: "scaling.svg", svg: Curves { title, series: subjects, ticks, panels }.to_svg() })
}

#[expect(clippy::cast_precision_loss, reason = "a count of entries")]
fn size(entries: u64) -> String {
    match entries {
        1_000_000.. => format!("{} M", entries as f64 / 1e6),
        1_000.. => format!("{} k", entries as f64 / 1e3),
        _ => entries.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::{Load, Spread};

    fn report(sizes: &[u64]) -> Report {
        let loads = sizes.iter().map(|&entries| {
            let (subject, durability) = ("store".to_owned(), "nothing".to_owned());
            Load { subject, durability, entries, seconds: 1.0 }
        });
        let closed = sizes.iter().map(|&entries| {
            let rate = Spread { median: 100.0, min: 90.0, max: 110.0 };
            let (ratio, latency, counted) = (None, None, BTreeMap::new());
            let side = ClosedSide { subject: "store".to_owned(), entries, rate, ratio, latency, counted };
            Closed { operation: Operation::Get, tasks: 1, sides: vec![side] }
        });
        Report { loads: loads.collect(), closed: closed.collect(), ..Report::default() }
    }

    #[test]
    fn several_sizes_have_a_scaling_chart() {
        let files = |sizes: &[u64]| charts(&report(sizes)).iter().map(|chart| chart.file).collect::<Vec<_>>();
        assert_eq!(files(&[1_000]), ["throughput.svg"]);
        assert_eq!(files(&[1_000, 1_000_000]), ["throughput.svg", "scaling.svg"]);
        let scaling = charts(&report(&[1_000, 1_000_000])).pop().unwrap().svg;
        assert!(scaling.contains(">1 M</text>") && scaling.matches("<circle").count() == 2, "{scaling}");
    }
}
