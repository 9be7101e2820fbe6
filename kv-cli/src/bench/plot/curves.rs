//! Line charts in panels.

use super::scale::Log;
use super::svg::{Anchor, Svg, WIDTH};
use super::{colour, legend};
use crate::bench::table::micros;

/// A chart with panels of curves. The vertical axis is logarithmic, in microseconds.
#[derive(Debug, Clone)]
pub struct Curves {
    /// The title of the chart.
    pub title: String,
    /// The names of the series, each of which has a colour.
    pub series: Vec<String>,
    /// The labels of the horizontal axis.
    pub ticks: Vec<String>,
    /// The panels.
    pub panels: Vec<Panel>,
}

/// A panel of curves.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The title of the panel.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The index of the series.
    pub series: usize,
    /// The points: the index of a tick, and the microseconds.
    pub points: Vec<(usize, f64)>,
}

impl Curves {
    const COLUMNS: usize = 3;
    const HEIGHT: f64 = 170.0;
    const LEFT: f64 = 62.0;

    /// Returns the chart as SVG text.
    pub fn to_svg(&self) -> String {
        let mut svg = Svg::default();
        svg.text((16.0, 24.0), Anchor::Start, 15, &self.title);
        let top = 40.0 + legend(&mut svg, &self.series, 38.0) + 14.0;
        let points = self.panels.iter().flat_map(|panel| &panel.curves).flat_map(|curve| &curve.points);
        let scale = Log::around(points.map(|(_, micros)| *micros));
        let width = WIDTH / number(Self::COLUMNS);
        for (index, panel) in self.panels.iter().enumerate() {
            let left = number(index % Self::COLUMNS) * width;
            let top = top + number(index / Self::COLUMNS) * (Self::HEIGHT + 44.0);
            self.panel(&mut svg, panel, scale, (left + Self::LEFT, top), width - Self::LEFT - 18.0);
        }
        let rows = self.panels.len().div_ceil(Self::COLUMNS);
        svg.finish(top + number(rows) * (Self::HEIGHT + 44.0))
    }

    fn panel(&self, svg: &mut Svg, panel: &Panel, scale: Log, (left, top): (f64, f64), width: f64) {
        let bottom = top + Self::HEIGHT;
        let up = |micros| bottom - scale.position(micros) * Self::HEIGHT;
        let last = number(self.ticks.len().saturating_sub(1)).max(1.0);
        let across = |tick| left + number(tick) / last * width;
        svg.text((left, top - 5.0), Anchor::Start, 12, &panel.title);
        for decade in scale.decades() {
            svg.rule((left, up(decade)), (left + width, up(decade)));
            // Powers of ten need no decimals.
            let name = micros(decade).replace(".00", "").replace(".0", "");
            svg.text((left - 5.0, up(decade) + 4.0), Anchor::End, 10, &name);
        }
        for (tick, name) in self.ticks.iter().enumerate() {
            svg.text((across(tick), bottom + 14.0), Anchor::Middle, 10, name);
        }
        for Curve { series, points } in &panel.curves {
            let points: Vec<_> = points.iter().map(|&(tick, micros)| (across(tick), up(micros))).collect();
            svg.curve(&points, colour(*series));
        }
    }
}

/// Converts a number of panels or ticks. Such numbers are small.
fn number(count: usize) -> f64 {
    f64::from(u16::try_from(count).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_mark_for_each_point() {
        let curve = |series| Curve { series, points: vec![(0, 1.0), (1, 250.0)] };
        let panel = Panel { title: "get".to_owned(), curves: vec![curve(0), curve(1)] };
        let strings = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let curves = Curves {
            title: "latency".to_owned(),
            series: strings(["a", "b"]),
            ticks: strings(["p50", "p99"]),
            panels: vec![panel; 4],
        };
        let svg = curves.to_svg();
        assert_eq!((svg.matches("<circle").count(), svg.matches(">p99</text>").count()), (16, 4));
    }
}
