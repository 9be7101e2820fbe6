//! The log: which messages there are, and what of each page is the newest.

use std::collections::{BTreeMap, HashMap};

use kv_core::Result;

use super::bytes::Bytes;
use super::files::{Files, SEGMENT_BYTES};

/// Where the body of a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the log, with its length.
    Log(u64, usize),
    /// In a file of its own.
    Blob(u64),
}

/// A page as the log has it: a whole and what was added to it, in order.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// When the last piece was written: later pages are right where two hold the same key.
    pub(crate) last: u64,
    pub(crate) whole: Place,
    pub(crate) additions: Vec<Place>,
}

/// The pages that are there, and how many messages could not be read where there should be some.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) pages: HashMap<u64, Pieces>,
    pub(crate) damaged_parts: u64,
}

const SEGMENT_HEADER_BYTES: usize = 20;
/// sled begins no message where less than this is left of a segment.
const LONGEST_MESSAGE_HEADER_BYTES: usize = 32;

#[derive(Clone, Copy)]
enum Message {
    Whole(u64, Place),
    Addition(u64, Place),
    Free(u64),
    /// What follows belongs together up to this place in the history of the log.
    Batch(u64),
    Nothing,
    /// The rest of the segment is padding.
    End,
}

/// Why a segment has no further message.
enum Tail {
    Clean,
    /// Nothing stands there: sled fills what it has not written with zeros.
    Blank(usize),
    /// What stands there is no message.
    Damaged(usize),
}

impl Tail {
    /// Whether messages of this use of the segment stand behind its end, in order: sled writes without gaps.
    fn is_cut_off(&self, segment: &[u8], start: u64) -> bool {
        let (Self::Blank(place) | Self::Damaged(place)) = *self else { return false };
        has_message(segment, place + 1, |number| number == segment_number(start))
    }
}

impl Log {
    /// Reads every segment.
    pub(crate) fn read(files: &Files) -> Result<Self> {
        let mut log = Self::default();
        let (mut order, mut headless) = (BTreeMap::new(), Vec::new());
        for number in 0..files.segments()? {
            let head = files.log(number * SEGMENT_BYTES as u64, SEGMENT_HEADER_BYTES)?;
            match head.as_deref().map(segment_start) {
                Some(Some(start)) => drop(order.insert(start, number)),
                Some(None) if head.is_some_and(|head| head.iter().all(|&byte| byte == 0)) => headless.push(number),
                _ => log.damaged_parts += 1,
            }
        }
        let Some((&last_start, &last)) = order.last_key_value() else { return Ok(log) };
        let (end, is_cut_off) = tip(&files.segment(last)?, last_start);
        log.damaged_parts += u64::from(is_cut_off);
        // Most were never used, or given back. One that has what came later than the last one has lost its header.
        for number in headless {
            let is_later = has_message(&files.segment(number)?, 0, |number| number > segment_number(last_start));
            log.damaged_parts += u64::from(is_later);
        }
        let mut is_torn = false;
        for (start, number) in order {
            let segment = files.segment(number)?;
            let tail = messages(&segment, start, number, |at, message| {
                is_torn |= matches!(message, Message::Batch(last) if last > end);
                if !is_torn {
                    log.apply(at, message);
                }
            });
            let is_damaged = matches!(tail, Tail::Damaged(_)) || tail.is_cut_off(&segment, start);
            log.damaged_parts += u64::from(number != last && is_damaged);
        }
        Ok(log)
    }

    fn apply(&mut self, at: u64, message: Message) {
        match message {
            Message::Whole(page, whole) => {
                self.pages.insert(page, Pieces { last: at, whole, additions: Vec::new() });
            }
            Message::Addition(page, place) => {
                if let Some(pieces) = self.pages.get_mut(&page) {
                    pieces.last = at;
                    pieces.additions.push(place);
                }
            }
            Message::Free(page) => drop(self.pages.remove(&page)),
            Message::Batch(_) | Message::Nothing | Message::End => {}
        }
    }
}

/// Where a segment begins in the history of the log, if its header is in order.
fn segment_start(head: &[u8]) -> Option<u64> {
    let mut bytes = Bytes::new(head);
    let check = u32::from_le_bytes(bytes.array()?);
    let rest = head.get(4..SEGMENT_HEADER_BYTES)?;
    let start = u64::from_le_bytes(bytes.array()?) ^ 0x7FFF_FFFF_FFFF_FFFF;
    (crc32fast::hash(rest) ^ u32::MAX == check && start % SEGMENT_BYTES as u64 == 0).then_some(start)
}

/// Where the history of the log ends, and whether it went on from there. Behind the end stands what was there before, and
/// after a crash what was half written; what is in order there and belongs to this use of the segment has been cut off.
fn tip(last_segment: &[u8], start: u64) -> (u64, bool) {
    let mut end = start;
    let tail = messages(last_segment, start, 0, |at, _| end = at);
    (end, tail.is_cut_off(last_segment, start))
}

/// Gives each message of a segment, with the place in the history of the log where it ends.
fn messages(segment: &[u8], start: u64, number: u64, mut each: impl FnMut(u64, Message)) -> Tail {
    let mut place = SEGMENT_HEADER_BYTES;
    while place + LONGEST_MESSAGE_HEADER_BYTES <= SEGMENT_BYTES {
        let Some(rest) = segment.get(place..).filter(|rest| !rest.is_empty()) else { return Tail::Clean };
        let is_meant = |number| number == segment_number(start);
        let Some((message, length)) = message(rest, is_meant, number * SEGMENT_BYTES as u64 + place as u64) else {
            let is_blank = rest.iter().take(LONGEST_MESSAGE_HEADER_BYTES).all(|&byte| byte == 0);
            return if is_blank { Tail::Blank(place) } else { Tail::Damaged(place) };
        };
        place += length;
        if matches!(message, Message::End) {
            return Tail::Clean;
        }
        each(start + place as u64 - 1, message);
    }
    Tail::Clean
}

/// Whether a message in order stands anywhere from a place of a segment on, of a use of it with such a number.
fn has_message(segment: &[u8], from: usize, is_meant: impl Fn(u64) -> bool) -> bool {
    let mut rests = (from..segment.len()).filter_map(|place| segment.get(place..));
    rests.any(|rest| message(rest, &is_meant, 0).is_some())
}

/// The number that messages of a use of a segment have, by where that begins in the history of the log.
fn segment_number(start: u64) -> u64 {
    start / SEGMENT_BYTES as u64
}

/// One message and its length, if it is in order. `place` is where it stands in the file.
fn message(bytes: &[u8], is_meant: impl Fn(u64) -> bool, place: u64) -> Option<(Message, usize)> {
    let mut head = Bytes::new(bytes);
    let check = u32::from_le_bytes(head.array()?);
    let kind = head.byte()?;
    let length = usize::try_from(head.number()?).ok()?;
    let (segment, page) = (head.number()?, head.number()?);
    // What another use of the segment has left has its own number. Judged first, as it costs nothing.
    if !is_meant(segment) || !(1..=11).contains(&kind) {
        return None;
    }
    let head_length = bytes.len() - head.left();
    let body = head.slice(length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(bytes.get(4..head_length)?);
    if hasher.finalize() ^ u32::MAX != check {
        return None;
    }
    let inline = Place::Log(place + head_length as u64, length);
    let blob = || Some(Place::Blob(u64::from_le_bytes(body.try_into().ok()?)));
    let message = match kind {
        2 => Message::End,
        3 => Message::Batch(u64::from_le_bytes(body.try_into().ok()?)),
        4 => Message::Free(page),
        8 => Message::Whole(page, inline),
        9 => Message::Whole(page, blob()?),
        10 => Message::Addition(page, inline),
        11 => Message::Addition(page, blob()?),
        // Cancelled, a counter, and the names of trees.
        1 | 5 | 6 | 7 => Message::Nothing,
        _ => return None,
    };
    Some((message, head_length + length))
}
