//! The elements of an SVG image.

use std::fmt::Write;

/// The width of every image, in SVG units.
pub(super) const WIDTH: f64 = 860.0;

/// The part of a text that is placed at the given position.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An image under construction.
#[derive(Debug, Default)]
pub(super) struct Svg {
    elements: String,
}

impl Svg {
    pub(super) fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        ));
    }

    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(r##"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="#d8d8d8"/>"##));
    }

    pub(super) fn curve(&mut self, points: &[(f64, f64)], colour: &str) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        self.add(format_args!(r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join("L")));
        for (x, y) in points {
            self.add(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
        }
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, size: u8, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{text}</text>"#
        ));
    }

    /// Returns the SVG text of the image with this height.
    pub(super) fn finish(self, height: f64) -> String {
        let elements = self.elements;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             font-family=\"sans-serif\" fill=\"#222222\">\n\
             <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n{elements}</svg>\n"
        )
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.elements, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        let mut svg = Svg::default();
        svg.text((1.0, 2.0), Anchor::Middle, 12, "<a & b>");
        let file = svg.finish(10.0);
        assert!(file.contains("&lt;a &amp; b&gt;</text>") && file.ends_with("</svg>\n"), "{file}");
    }
}
