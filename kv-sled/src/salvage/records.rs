//! The records of all pages, each key once.

use kv_core::Result;

use super::files::Files;
use super::log::Log;
use super::page::{Leaf, Page};

/// Counts of unreadable parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Damage {
    /// Parts of the log: segments, or the rest of a segment after a damaged message.
    pub(crate) log_parts: u64,
    /// Pages of the tree, or changes to them.
    pub(crate) pages: u64,
}

/// A leaf's bounds and age, without its records.
struct Span {
    leaf: Leaf,
    last: u64,
    page: u64,
}

/// Passes every readable record to `each`, in key order unless damage has disturbed the order of pages.
pub(crate) fn for_each_record(files: &Files, mut each: impl FnMut(&[u8], Vec<u8>) -> Result<()>) -> Result<Damage> {
    let log = Log::read(files)?;
    let mut damage = Damage { log_parts: log.damaged_parts, pages: 0 };
    let mut spans = Vec::new();
    for (&page, pieces) in &log.pages {
        match Page::read(files, pieces)? {
            (Page::Leaf(Leaf { low, high, records: _ }), unreadable) => {
                damage.pages += unreadable;
                spans.push(Span { leaf: Leaf { low, high, ..Leaf::default() }, last: pieces.last, page });
            }
            (Page::Inner, _) => {}
            (Page::Unreadable, unreadable) => damage.pages += unreadable,
        }
    }
    spans.sort_by(|one, other| one.leaf.low.cmp(&other.leaf.low));
    // If no earlier leaf overlaps this one, only later leaves are compared with it.
    let mut reach = Reach::To(&[]);
    for (position, Span { leaf: Leaf { low, high, records: _ }, last, page }) in spans.iter().enumerate() {
        let is_overlapped = reach.is_beyond(low);
        reach.extend(high);
        let Some(pieces) = log.pages.get(page) else { continue };
        let (Page::Leaf(leaf), _) = Page::read(files, pieces)? else { continue };
        let newer = newer_overlapping(&spans, if is_overlapped { 0 } else { position }, position, &leaf, *last);
        for (key, value) in leaf.records {
            if !newer.iter().any(|span| span.leaf.covers(&key)) {
                each(&key, value)?;
            }
        }
    }
    Ok(damage)
}

/// The greatest upper bound of the leaves so far.
enum Reach<'s> {
    To(&'s [u8]),
    Everything,
}

impl<'s> Reach<'s> {
    fn is_beyond(&self, low: &[u8]) -> bool {
        match self {
            Self::To(high) => *high > low,
            Self::Everything => true,
        }
    }

    fn extend(&mut self, high: &'s [u8]) {
        match self {
            _ if high.is_empty() => *self = Self::Everything,
            Self::To(reach) if *reach < high => *self = Self::To(high),
            Self::To(_) | Self::Everything => {}
        }
    }
}

/// The leaves from `first` on that overlap this leaf and were written later. An intact file has none. But if damage has
/// hidden the newest version of a leaf, an old version may overlap many others.
fn newer_overlapping<'s>(spans: &'s [Span], first: usize, position: usize, leaf: &Leaf, last: u64) -> Vec<&'s Span> {
    let is_near = |span: &&Span| leaf.high.is_empty() || span.leaf.low < leaf.high;
    let overlaps = |span: &&Span| span.last > last && (span.leaf.high.is_empty() || span.leaf.high > leaf.low);
    let before = spans.iter().take(position).skip(first);
    let after = spans.iter().skip(position + 1);
    before.chain(after).take_while(is_near).filter(overlaps).collect()
}
