//! The records of all pages, each key once.

use kv_core::Result;

use super::files::Files;
use super::log::Log;
use super::page::{Leaf, Page};

/// What could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Damage {
    /// Parts of the log: segments, or what follows a message that is not in order.
    pub(crate) log_parts: u64,
    /// Pages of the tree, or changes to them.
    pub(crate) pages: u64,
}

/// A leaf's place and time, without its records.
struct Span {
    leaf: Leaf,
    last: u64,
    page: u64,
}

/// Gives every record that can be read, in the order of their keys as far as the pages are in order.
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
    // Where no leaf before this one reaches into it, none of them needs to be looked at.
    let mut reach = Reach::To(&[]);
    for (place, Span { leaf: Leaf { low, high, records: _ }, last, page }) in spans.iter().enumerate() {
        let is_reached = reach.is_behind(low);
        reach.extend(high);
        let Some(pieces) = log.pages.get(page) else { continue };
        let (Page::Leaf(leaf), _) = Page::read(files, pieces)? else { continue };
        let newer = newer_neighbours(&spans, if is_reached { 0 } else { place }, place, &leaf, *last);
        for (key, value) in leaf.records {
            if !newer.iter().any(|span| span.leaf.covers(&key)) {
                each(&key, value)?;
            }
        }
    }
    Ok(damage)
}

/// How far leaves reach.
enum Reach<'s> {
    To(&'s [u8]),
    Everything,
}

impl<'s> Reach<'s> {
    fn is_behind(&self, low: &[u8]) -> bool {
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

/// The leaves from `first` on that hold some of the same keys and were written later. In a file that is in order there are
/// none, but a leaf that lost its newest form may reach far over others.
fn newer_neighbours<'s>(spans: &'s [Span], first: usize, place: usize, leaf: &Leaf, last: u64) -> Vec<&'s Span> {
    let is_near = |span: &&Span| leaf.high.is_empty() || span.leaf.low < leaf.high;
    let overlaps = |span: &&Span| span.last > last && (span.leaf.high.is_empty() || span.leaf.high > leaf.low);
    let before = spans.iter().take(place).skip(first);
    let behind = spans.iter().skip(place + 1);
    before.chain(behind).take_while(is_near).filter(overlaps).collect()
}
