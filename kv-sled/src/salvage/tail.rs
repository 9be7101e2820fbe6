//! The tail of the log: the segments that sled checks when it opens the log.
//!
//! The tail begins at the segment of the last stable log position that sled finds in its snapshot and in the headers of
//! the segments after the snapshot. sled takes a missing segment of the tail for the effect of a crash: it ignores all
//! messages from there on, and fills all segments after the snapshot that it has not read with zeros. If the first
//! segment of the tail is missing, sled reads nothing and erases everything.

use std::collections::BTreeMap;

use kv_core::Result;

use super::files::{Files, SEGMENT_BYTES};
use super::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// The maximum number of missing segments that are counted. The tail of an intact log is as long as the last batch.
const MAX_MISSING: usize = 1_024;

/// The segments that are missing in the tail of a log, and the free segments of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The log positions of the missing segments, in order.
    pub(crate) missing: Vec<u64>,
    /// True if a missing segment was once written: only freeing the segment or damage explains that it is missing. If
    /// false, a crash may also be the reason, because sled does not write segments in order.
    pub(crate) was_written: bool,
    /// The numbers of the segments whose header is blank. sled fills a segment with zeros when it frees the segment.
    blank: Vec<u64>,
    /// The number of segments of the file.
    segments: u64,
}

impl Tail {
    /// Reads the headers of all segments. `end` is the log position at which the snapshot ends, zero without a
    /// snapshot.
    pub(crate) fn read(files: &Files, end: u64) -> Result<Self> {
        let first = floor(end);
        let (mut order, mut blank, mut stable, segments) = (BTreeMap::new(), Vec::new(), None, files.segments()?);
        for number in 0..segments {
            let Some(bytes) = files.log(number * SEGMENT_BYTES as u64, SEGMENT_HEADER_BYTES)? else { continue };
            match SegmentHeader::decode(&bytes) {
                Some(header) if header.start >= first => {
                    order.insert(header.start, number);
                    stable = stable.max(header.stable);
                }
                None if bytes.iter().all(|&byte| byte == 0) => blank.push(number),
                _ => {}
            }
        }
        let begin = first.max(floor(stable.unwrap_or(0)));
        let last = order.last_key_value().map_or(begin, |(&last, _)| last);
        let tail = (begin..last).step_by(SEGMENT_BYTES);
        let missing: Vec<_> = tail.filter(|start| !order.contains_key(start)).take(MAX_MISSING + 1).collect();
        let was_written =
            missing.first().is_some_and(|&first| stable.is_some_and(|stable| stable >= first) || end > first);
        Ok(Self { missing, was_written, blank, segments })
    }

    /// Writes an empty segment for each missing segment, so that the tail has no gap. Uses blank segments, then extends
    /// the file. Returns false if too many segments are missing.
    ///
    /// Each step is safe if the process or the machine stops after it: a segment does not count before its header is
    /// written, and everything else is synced before its header.
    pub(crate) fn fill(&self, files: &Files) -> Result<bool> {
        if self.missing.len() > MAX_MISSING {
            return Ok(false);
        }
        let numbers = self.blank.iter().copied().chain(self.segments..);
        for (&start, number) in self.missing.iter().zip(numbers) {
            // An empty segment has no stable position, so it does not move the beginning of the tail.
            let Some(header) = (SegmentHeader { start, stable: None }).encode() else { return Ok(false) };
            let offset = number * SEGMENT_BYTES as u64;
            files.extend_to(offset + SEGMENT_BYTES as u64)?;
            files.write(offset + SEGMENT_HEADER_BYTES as u64, &end_of_segment(start))?;
            files.write(offset, &header)?;
        }
        Ok(true)
    }
}

/// The log position at which the segment with this log position begins.
fn floor(position: u64) -> u64 {
    position - position % SEGMENT_BYTES as u64
}

/// The message with which sled ends a segment, without a body.
fn end_of_segment(start: u64) -> Vec<u8> {
    /// The kind of the message.
    const END: u8 = 2;
    /// The byte that announces a number of eight bytes.
    const EIGHT_BYTES: u8 = 255;
    /// sled writes this page number into the messages that end segments.
    const NO_PAGE: u64 = u64::MAX;
    let mut rest = vec![END, 0];
    for number in [start / SEGMENT_BYTES as u64, NO_PAGE] {
        rest.push(EIGHT_BYTES);
        rest.extend_from_slice(&number.to_le_bytes());
    }
    let crc = crc32fast::hash(&rest) ^ u32::MAX;
    [&crc.to_le_bytes()[..], &rest].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BYTES: u64 = SEGMENT_BYTES as u64;

    /// Writes a log of these segments: the log position in segments, and the stable position. `None` is a blank
    /// segment.
    fn log(segments: &[Option<(u64, Option<u64>)>]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        for segment in segments {
            let header = segment.map(|(start, stable)| SegmentHeader { start: start * BYTES, stable });
            bytes.extend(header.map_or([0; SEGMENT_HEADER_BYTES], |header| header.encode().unwrap()));
            bytes.resize(bytes.len().next_multiple_of(SEGMENT_BYTES), 0);
        }
        fs::write(folder.path().join("db"), bytes).unwrap();
        folder
    }

    #[test]
    fn the_missing_segments_from_the_last_stable_position_on_are_found() {
        let begun = |segment: u64| Some(segment * BYTES + 20);
        for (name, segments, end, missing, was_written) in [
            ("a whole log", vec![Some((0, None)), Some((1, begun(0)))], 0, vec![], false),
            (
                "a hole before the tail",
                vec![Some((0, None)), Some((3, begun(2))), Some((2, begun(1)))],
                0,
                vec![],
                false,
            ),
            ("no first segment", vec![Some((0, None)), None, Some((2, begun(1)))], 0, vec![1], true),
            ("a later snapshot", vec![Some((0, None)), None, Some((2, begun(1)))], 2 * BYTES + 9, vec![], false),
            ("an older snapshot", vec![Some((0, None)), None, Some((2, begun(1)))], 9, vec![1], true),
            ("no second segment", vec![Some((1, begun(0))), Some((3, begun(1)))], 0, vec![2], false),
            ("a long batch", vec![Some((0, None)), Some((4, begun(1)))], 0, vec![1, 2, 3], true),
            ("an unwritten segment", vec![Some((1, begun(0))), Some((3, begun(1)))], 2 * BYTES, vec![2], false),
            ("no header", vec![None, None], 9, vec![], false),
        ] {
            let folder = log(&segments);
            let tail = Tail::read(&Files::open(folder.path()).unwrap(), end).unwrap();
            let expected: Vec<_> = missing.iter().map(|segment| segment * BYTES).collect();
            assert_eq!((&tail.missing, tail.was_written), (&expected, was_written), "{name}");
        }
    }

    #[test]
    fn blank_segments_are_filled_before_the_file_grows() {
        let folder = log(&[Some((0, None)), None, Some((4, Some(BYTES + 20)))]);
        let files = Files::open_to_repair(folder.path()).unwrap();
        let original = fs::read(folder.path().join("db")).unwrap();
        assert!(Tail::read(&files, 0).unwrap().fill(&files).unwrap());
        assert_eq!(files.segments().unwrap(), 5);
        for (number, start) in [(0, 0), (1, 1), (2, 4), (3, 2), (4, 3)] {
            let header = files.log(number * BYTES, SEGMENT_HEADER_BYTES).unwrap().unwrap();
            assert_eq!(SegmentHeader::decode(&header).unwrap().start, start * BYTES, "{number}");
        }
        let filled = Tail::read(&files, 0).unwrap();
        assert_eq!((filled.missing, filled.blank), (vec![], vec![]));
        let log = fs::read(folder.path().join("db")).unwrap();
        assert_eq!(log[..SEGMENT_BYTES], original[..SEGMENT_BYTES]);
        assert_eq!(log[2 * SEGMENT_BYTES..3 * SEGMENT_BYTES], original[2 * SEGMENT_BYTES..]);
    }

    #[test]
    fn a_log_with_too_many_missing_segments_is_not_filled() {
        let folder = log(&[Some((0, Some(20))), Some((MAX_MISSING as u64 + 2, None))]);
        let files = Files::open_to_repair(folder.path()).unwrap();
        assert!(!Tail::read(&files, 0).unwrap().fill(&files).unwrap());
        assert_eq!(files.segments().unwrap(), 2);
    }
}
