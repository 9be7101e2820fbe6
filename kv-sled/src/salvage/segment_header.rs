//! The header of a segment of the log.

use super::bytes::Bytes;
use super::files::SEGMENT_BYTES;

/// The number of bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 20;

/// sled stores log positions in headers with these bits flipped, so that a header of zeros is not valid.
const FLIPPED_BITS: i64 = i64::MAX;

/// The decoded header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The log position at which the segment begins. Log positions only grow: when sled uses a segment again, the
    /// segment begins at a greater log position.
    pub(crate) start: u64,
    /// The last log position that was stable when sled began the segment: sled had written all earlier bytes. `None` if
    /// no position was stable.
    pub(crate) stable: Option<u64>,
}

impl SegmentHeader {
    /// Decodes a header; `None` if the header is damaged.
    pub(crate) fn decode(header: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(header);
        let crc = u32::from_le_bytes(bytes.array()?);
        let rest = header.get(4..SEGMENT_HEADER_BYTES)?;
        let start = u64::try_from(i64::from_le_bytes(bytes.array()?) ^ FLIPPED_BITS).ok()?;
        let stable = u64::try_from(i64::from_le_bytes(bytes.array()?) ^ FLIPPED_BITS).ok();
        let is_sound = crc32fast::hash(rest) ^ u32::MAX == crc && start % SEGMENT_BYTES as u64 == 0;
        is_sound.then_some(Self { start, stable })
    }

    /// Encodes the header as sled does; `None` if a log position is too great for sled.
    pub(crate) fn encode(self) -> Option<[u8; SEGMENT_HEADER_BYTES]> {
        let start = i64::try_from(self.start).ok()?;
        let stable = self.stable.map_or(Some(-1), |stable| i64::try_from(stable).ok())?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let (crc, rest) = header.split_first_chunk_mut()?;
        let (first, second) = rest.split_first_chunk_mut()?;
        *first = (start ^ FLIPPED_BITS).to_le_bytes();
        second.copy_from_slice(&(stable ^ FLIPPED_BITS).to_le_bytes());
        *crc = (crc32fast::hash(rest) ^ u32::MAX).to_le_bytes();
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_decodes_to_itself_and_damage_is_detected() {
        for stable in [None, Some(0), Some(3_080_687)] {
            let header = SegmentHeader { start: 6 << 19, stable };
            let bytes = header.encode().unwrap();
            assert_eq!(SegmentHeader::decode(&bytes), Some(header));
            for offset in 0..SEGMENT_HEADER_BYTES {
                let mut damaged = bytes;
                damaged[offset] ^= 1;
                assert_eq!(SegmentHeader::decode(&damaged), None, "{offset}");
                assert_eq!(SegmentHeader::decode(&bytes[..offset]), None, "{offset}");
            }
        }
        assert_eq!(SegmentHeader::decode(&[0; SEGMENT_HEADER_BYTES]), None);
        assert_eq!(SegmentHeader { start: u64::MAX, stable: None }.encode(), None);
    }

    /// The bytes of a header that sled has written.
    #[test]
    fn a_header_of_sled_encodes_to_the_same_bytes() {
        let bytes = [
            0xA4, 0x75, 0x0A, 0xEA, 0xFF, 0xFF, 0xCF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x10, 0xFE, 0xD0, 0xFF, 0xFF, 0xFF,
            0xFF, 0x7F,
        ];
        let header = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!(header.encode(), Some(bytes));
    }
}
