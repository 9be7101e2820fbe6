//! Grouped bar charts.

use super::scale::Log;
use super::svg::{Anchor, Svg, WIDTH};
use super::{colour, legend};
use crate::bench::table::figure;

/// A bar chart with groups of bars over one logarithmic axis.
#[derive(Debug, Clone)]
pub struct Bars {
    /// The title of the chart.
    pub title: String,
    /// The names of the series, each of which has a colour.
    pub series: Vec<String>,
    /// The groups, from the top down.
    pub groups: Vec<Group>,
}

/// A group of bars.
#[derive(Debug, Clone)]
pub struct Group {
    /// The name of the group.
    pub name: String,
    /// The value of each series; `None` draws no bar.
    pub values: Vec<Option<f64>>,
}

impl Bars {
    const LEFT: f64 = 150.0;
    const RIGHT: f64 = 80.0;
    const BAR: f64 = 13.0;
    const GAP: f64 = 9.0;

    /// Returns the chart as SVG text.
    pub fn to_svg(&self) -> String {
        let Self { title, series, groups } = self;
        let mut svg = Svg::default();
        svg.text((16.0, 24.0), Anchor::Start, 15, title);
        let top = 40.0 + legend(&mut svg, series, 38.0) + 6.0;
        let scale = Log::around(groups.iter().flat_map(|group| &group.values).copied().flatten());
        let across = |value| Self::LEFT + scale.position(value) * (WIDTH - Self::LEFT - Self::RIGHT);
        let height = |group: &Group| {
            let bars = group.values.iter().flatten().count();
            f64::from(u16::try_from(bars.max(1)).unwrap_or(u16::MAX)) * Self::BAR + Self::GAP
        };
        let bottom = top + groups.iter().map(height).sum::<f64>();
        for decade in scale.decades() {
            svg.rule((across(decade), top - 4.0), (across(decade), bottom));
            svg.text((across(decade), bottom + 14.0), Anchor::Middle, 11, &figure(decade));
        }
        let mut y = top;
        for group in groups {
            let middle = y + (height(group) - Self::GAP) / 2.0 + 4.0;
            svg.text((Self::LEFT - 8.0, middle), Anchor::End, 12, &group.name);
            for (index, value) in group.values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let end = across(value).max(Self::LEFT + 1.0);
                svg.rectangle((Self::LEFT, y), (end - Self::LEFT, Self::BAR - 2.0), colour(index));
                svg.text((end + 4.0, y + 9.5), Anchor::Start, 10, &figure(value));
                y += Self::BAR;
            }
            if group.values.iter().all(Option::is_none) {
                y += Self::BAR;
            }
            y += Self::GAP;
        }
        svg.finish(bottom + 24.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_bar_for_each_value() {
        let group = |values| Group { name: "get".to_owned(), values };
        let series = vec!["a".to_owned(), "b".to_owned()];
        let groups = vec![group(vec![Some(10.0), None]), group(vec![Some(20.0), Some(5_000.0)])];
        let svg = Bars { title: "rates".to_owned(), series, groups }.to_svg();
        // One rectangle for the background, two in the legend, three bars.
        assert_eq!(svg.matches("<rect").count(), 6);
        assert!(svg.contains(">5.0 k</text>"), "{svg}");
    }
}
