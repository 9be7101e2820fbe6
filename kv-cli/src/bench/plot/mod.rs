//! SVG plots: bars and curves over logarithmic axes.

mod bars;
mod curves;
mod scale;
mod svg;

pub use self::bars::{Bars, Group};
pub use self::curves::{Curve, Curves, Panel};

/// The colours of the series. They are also distinct for people with red-green colour blindness. The first colour is
/// the darkest.
const COLOURS: [&str; 8] = ["#0b4f8a", "#e08a1e", "#2a9d6f", "#b5446e", "#6f6f6f", "#8fb8de", "#c9b037", "#7a5195"];

fn colour(series: usize) -> &'static str {
    COLOURS.get(series % COLOURS.len()).copied().unwrap_or("#000000")
}

/// Draws the names and colours of the series from left to right. Returns the height of the legend.
fn legend(svg: &mut svg::Svg, series: &[String], top: f64) -> f64 {
    let (mut left, mut line) = (16.0, 0.0);
    for (index, name) in series.iter().enumerate() {
        let width = 30.0 + 7.0 * f64::from(u16::try_from(name.chars().count()).unwrap_or(u16::MAX));
        if left + width > svg::WIDTH && left > 16.0 {
            (left, line) = (16.0, line + 18.0);
        }
        svg.rectangle((left, top + line), (11.0, 11.0), colour(index));
        svg.text((left + 16.0, top + line + 10.0), svg::Anchor::Start, 12, name);
        left += width;
    }
    line + 18.0
}
