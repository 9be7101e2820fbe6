//! Reading the log: its messages, and the newest version of each page.

use std::collections::{BTreeMap, HashMap};

use kv_core::Result;

use super::bytes::Bytes;
use super::files::{Files, SEGMENT_BYTES};
use super::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// The location of a message's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the log: the offset in the file, and the number of bytes.
    Log(u64, usize),
    /// In a separate file. The field is the name of the file.
    Blob(u64),
}

/// The pieces of a page: its last full version, and the later changes in their order.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The log position of the last piece. If two pages hold the same key, the page with the greater position is right.
    pub(crate) last: u64,
    pub(crate) base: Location,
    pub(crate) changes: Vec<Location>,
}

/// The pages of the log, and the number of its unreadable parts.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) pages: HashMap<u64, Pieces>,
    pub(crate) damaged_parts: u64,
}

/// The maximum number of bytes of a message's header. sled begins no message if fewer bytes remain in a segment.
const MAX_MESSAGE_HEADER_BYTES: usize = 32;

#[derive(Clone, Copy)]
enum Message {
    /// A full version of a page.
    Base(u64, Location),
    /// A change of a page.
    Change(u64, Location),
    /// The page was freed.
    Free(u64),
    /// The messages from here to this log position form one batch.
    Batch(u64),
    /// A message without effect on pages.
    Ignored,
    /// The rest of the segment is padding.
    Padding,
}

/// The reason why a segment has no further messages.
enum Tail {
    /// The segment is full, or the file ends.
    Full,
    /// Only zeros follow from this offset in the segment. sled fills unwritten parts with zeros.
    Blank(usize),
    /// The bytes at this offset in the segment are not an intact message of this segment.
    Damaged(usize),
}

impl Tail {
    /// True if intact messages follow after this end. sled writes messages without gaps, so the bytes in between are
    /// damaged.
    fn has_lost_messages(&self, segment: &[u8], start: u64) -> bool {
        let (Self::Blank(offset) | Self::Damaged(offset)) = *self else { return false };
        has_message(segment, offset + 1, |number| number == segment_number(start))
    }
}

impl Log {
    /// Reads all segments of the log.
    pub(crate) fn read(files: &Files) -> Result<Self> {
        let mut log = Self::default();
        let (mut order, mut without_header) = (BTreeMap::new(), Vec::new());
        for number in 0..files.segments()? {
            let header = files.log(number * SEGMENT_BYTES as u64, SEGMENT_HEADER_BYTES)?;
            match header.as_deref().map(SegmentHeader::decode) {
                Some(Some(SegmentHeader { start, .. })) => drop(order.insert(start, number)),
                Some(None) if header.is_some_and(|header| header.iter().all(|&byte| byte == 0)) => {
                    without_header.push(number);
                }
                _ => log.damaged_parts += 1,
            }
        }
        let Some((&last_start, &last)) = order.last_key_value() else { return Ok(log) };
        let (end, has_lost_messages) = end_of_log(&files.segment(last)?, last_start);
        log.damaged_parts += u64::from(has_lost_messages);
        // Most segments without a header were never used, or were freed. If a segment has messages that are later than
        // the last segment, the header of the segment is damaged.
        for number in without_header {
            let is_later = has_message(&files.segment(number)?, 0, |number| number > segment_number(last_start));
            log.damaged_parts += u64::from(is_later);
        }
        // A batch that ends after the end of the log is incomplete. Ignore it and all later messages.
        let mut is_incomplete = false;
        for (start, number) in order {
            let segment = files.segment(number)?;
            let tail = messages(&segment, start, number, |position, message| {
                is_incomplete |= matches!(message, Message::Batch(last) if last > end);
                if !is_incomplete {
                    log.apply(position, message);
                }
            });
            let is_damaged = matches!(tail, Tail::Damaged(_)) || tail.has_lost_messages(&segment, start);
            log.damaged_parts += u64::from(number != last && is_damaged);
        }
        Ok(log)
    }

    fn apply(&mut self, position: u64, message: Message) {
        match message {
            Message::Base(page, base) => {
                self.pages.insert(page, Pieces { last: position, base, changes: Vec::new() });
            }
            Message::Change(page, change) => {
                if let Some(pieces) = self.pages.get_mut(&page) {
                    pieces.last = position;
                    pieces.changes.push(change);
                }
            }
            Message::Free(page) => drop(self.pages.remove(&page)),
            Message::Batch(_) | Message::Ignored | Message::Padding => {}
        }
    }
}

/// Returns the log position of the last readable message, and true if intact messages of the same use of the segment
/// follow after damaged bytes. Messages of an earlier use, and half-written messages after a crash, do not count as
/// damage.
fn end_of_log(last_segment: &[u8], start: u64) -> (u64, bool) {
    let mut end = start;
    let tail = messages(last_segment, start, 0, |position, _| end = position);
    (end, tail.has_lost_messages(last_segment, start))
}

/// Passes each message of a segment to `each`, with the log position of the message's last byte.
fn messages(segment: &[u8], start: u64, number: u64, mut each: impl FnMut(u64, Message)) -> Tail {
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset + MAX_MESSAGE_HEADER_BYTES <= SEGMENT_BYTES {
        let Some(rest) = segment.get(offset..).filter(|rest| !rest.is_empty()) else { return Tail::Full };
        let is_expected = |number| number == segment_number(start);
        let Some((message, length)) = message(rest, is_expected, number * SEGMENT_BYTES as u64 + offset as u64) else {
            let is_blank = rest.iter().take(MAX_MESSAGE_HEADER_BYTES).all(|&byte| byte == 0);
            return if is_blank { Tail::Blank(offset) } else { Tail::Damaged(offset) };
        };
        offset += length;
        if matches!(message, Message::Padding) {
            return Tail::Full;
        }
        each(start + offset as u64 - 1, message);
    }
    Tail::Full
}

/// True if an intact message with an expected segment number begins at or after offset `from` of a segment.
fn has_message(segment: &[u8], from: usize, is_expected: impl Fn(u64) -> bool) -> bool {
    let mut rests = (from..segment.len()).filter_map(|offset| segment.get(offset..));
    rests.any(|rest| message(rest, &is_expected, 0).is_some())
}

/// Returns the segment number that is stored in each message of a segment that begins at this log position. Each use of
/// a segment has its own number.
fn segment_number(start: u64) -> u64 {
    start / SEGMENT_BYTES as u64
}

/// Decodes the message at the beginning of `bytes`, which are at this offset of the file. Returns the message and its
/// number of bytes. Returns `None` if the message is damaged or has a segment number that is not expected.
fn message(bytes: &[u8], is_expected: impl Fn(u64) -> bool, offset: u64) -> Option<(Message, usize)> {
    let mut header = Bytes::new(bytes);
    let crc = u32::from_le_bytes(header.array()?);
    let kind = header.byte()?;
    let length = usize::try_from(header.number()?).ok()?;
    let (segment, page) = (header.number()?, header.number()?);
    // Messages that remain from an earlier use of the segment have another segment number. This check comes first,
    // because it is cheaper than the CRC.
    if !is_expected(segment) || !(1..=11).contains(&kind) {
        return None;
    }
    let header_length = bytes.len() - header.remaining();
    let body = header.slice(length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(bytes.get(4..header_length)?);
    if hasher.finalize() ^ u32::MAX != crc {
        return None;
    }
    let inline = Location::Log(offset + header_length as u64, length);
    let blob = || Some(Location::Blob(u64::from_le_bytes(body.try_into().ok()?)));
    let message = match kind {
        2 => Message::Padding,
        3 => Message::Batch(u64::from_le_bytes(body.try_into().ok()?)),
        4 => Message::Free(page),
        8 => Message::Base(page, inline),
        9 => Message::Base(page, blob()?),
        10 => Message::Change(page, inline),
        11 => Message::Change(page, blob()?),
        // A cancelled message, a counter, or the names of trees.
        1 | 5 | 6 | 7 => Message::Ignored,
        _ => return None,
    };
    Some((message, header_length + length))
}
