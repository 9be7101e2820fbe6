//! The records of all pages, without older versions of the same keys.

use kv_core::Result;

use super::files::Files;
use super::log::Log;
use super::page::{Leaf, Page};

/// The numbers of unreadable parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Damage {
    /// The number of unreadable parts of the log: whole segments, or the rest of a segment after a damaged message.
    pub(crate) log_parts: u64,
    /// The number of unreadable pages of the tree and of unreadable changes of pages.
    pub(crate) pages: u64,
}

/// The bounds and the age of a leaf.
struct Span {
    /// The leaf without its records, which would take too much memory.
    leaf: Leaf,
    /// The log position of the leaf's last piece.
    last: u64,
    /// The number of the page.
    page: u64,
}

/// Passes every readable record to `each`. The records are in key order, unless damage makes leaves overlap.
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
    // The greatest upper bound of the earlier leaves. If this bound does not exceed the lower bound of a leaf, no
    // earlier leaf overlaps that leaf, and only the later leaves have to be compared.
    let mut greatest = UpperBound::Key(&[]);
    for (position, Span { leaf: Leaf { low, high, records: _ }, last, page }) in spans.iter().enumerate() {
        let is_overlapped = greatest.exceeds(low);
        greatest.raise_to(high);
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

/// An exclusive upper bound of keys.
enum UpperBound<'s> {
    Key(&'s [u8]),
    Unbounded,
}

impl<'s> UpperBound<'s> {
    fn exceeds(&self, low: &[u8]) -> bool {
        match self {
            Self::Key(high) => *high > low,
            Self::Unbounded => true,
        }
    }

    fn raise_to(&mut self, high: &'s [u8]) {
        match self {
            _ if high.is_empty() => *self = Self::Unbounded,
            Self::Key(greatest) if *greatest < high => *self = Self::Key(high),
            Self::Key(_) | Self::Unbounded => {}
        }
    }
}

/// Returns the leaves that overlap the leaf at `position` and were written later. Leaves before `first` do not overlap
/// that leaf. An intact log has no overlapping leaves. If the newest version of a leaf is damaged, an older version
/// with wider bounds may overlap many newer leaves.
fn newer_overlapping<'s>(spans: &'s [Span], first: usize, position: usize, leaf: &Leaf, last: u64) -> Vec<&'s Span> {
    let is_near = |span: &&Span| leaf.high.is_empty() || span.leaf.low < leaf.high;
    let overlaps = |span: &&Span| span.last > last && (span.leaf.high.is_empty() || span.leaf.high > leaf.low);
    let before = spans.iter().take(position).skip(first);
    let after = spans.iter().skip(position + 1);
    before.chain(after).take_while(is_near).filter(overlaps).collect()
}
