//! Reading a snapshot of sled's page table.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bytes::Bytes;

/// The parts of a snapshot that tell which files of large values are in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The log position up to which sled had read its log. Later messages are not in the snapshot.
    pub(crate) end: u64,
    /// The numbers of the files of large values to which pages refer.
    pub(crate) blobs: BTreeSet<u64>,
}

/// The number of bytes after the content: the length and the CRC-32.
const TRAILER_BYTES: usize = 12;

impl Snapshot {
    /// Returns the path of the snapshot that sled uses: the last by name.
    pub(crate) fn last(folder: &Path) -> io::Result<Option<PathBuf>> {
        let mut last: Option<PathBuf> = None;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(b"snap.") && !name.ends_with(b".in___motion") {
                last = last.max(Some(entry.path()));
            }
        }
        Ok(last)
    }

    /// Decodes the bytes of a snapshot file. `None` if any byte is not as expected.
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let (content, trailer) = file.split_at_checked(file.len().checked_sub(TRAILER_BYTES)?)?;
        let mut trailer = Bytes::new(trailer);
        let length = u64::from_le_bytes(trailer.array()?);
        let crc = u32::from_le_bytes(trailer.array()?);
        if length != content.len() as u64 || crc != crc32fast::hash(content) {
            return None;
        }
        let mut bytes = Bytes::new(content);
        // sled adds one to the numbers of the header, because zero means that there is none.
        let end = position(&mut bytes)?.checked_sub(1)?;
        let _active_segment = bytes.number()?;
        let mut blobs = BTreeSet::new();
        while bytes.remaining() > 0 {
            // The kind of a page is zero for a free page, else the number of its pieces.
            match bytes.byte()? {
                0 => {
                    let _position = position(&mut bytes)?;
                    let _freed = Pointer::decode(&mut bytes)?;
                }
                pieces => {
                    for _ in 0..pieces {
                        let _position = position(&mut bytes)?;
                        if let Pointer::Blob(number) = Pointer::decode(&mut bytes)? {
                            blobs.insert(number);
                        }
                        let _length = bytes.number()?;
                    }
                }
            }
        }
        Some(Self { end, blobs })
    }
}

/// Decodes a log position, which is never negative in a sound snapshot.
fn position(bytes: &mut Bytes<'_>) -> Option<u64> {
    u64::try_from(i64::from_le_bytes(bytes.array()?)).ok()
}

/// A pointer to a message of a page.
enum Pointer {
    /// The message is in the log.
    Log,
    /// The message is in a separate file with this number.
    Blob(u64),
}

impl Pointer {
    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        let kind = bytes.byte()?;
        let _offset_in_log = bytes.number()?;
        match kind {
            0 => Some(Self::Log),
            1 => Some(Self::Blob(position(bytes)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> Vec<u8> {
        let mut file = content.to_vec();
        file.extend_from_slice(&(content.len() as u64).to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        file
    }

    /// A snapshot up to position 99 with a page of two pieces, whose second piece is in a separate file, and a free
    /// page.
    fn content() -> Vec<u8> {
        let position = |number: i64| number.to_le_bytes().to_vec();
        [
            &position(100)[..],
            &[1],
            &[2],
            &position(20),
            &[0, 30],
            &[40],
            &position(50),
            &[1, 60],
            &position(50),
            &[70],
            &[0],
            &position(80),
            &[0, 90],
        ]
        .concat()
    }

    #[test]
    fn the_files_to_which_pages_refer_are_found() {
        let expected = Snapshot { end: 99, blobs: BTreeSet::from([50]) };
        assert_eq!(Snapshot::decode(&file(&content())), Some(expected));
    }

    #[test]
    fn a_snapshot_that_is_not_as_expected_is_refused() {
        let sound = content();
        for length in 0..sound.len() {
            // A snapshot that ends after a whole page is a valid snapshot of fewer pages.
            let is_whole = [9, 40].contains(&length);
            assert_eq!(Snapshot::decode(&file(&sound[..length])).is_some(), is_whole, "{length}");
        }
        let file = file(&sound);
        for offset in 0..file.len() {
            let mut damaged = file.clone();
            damaged[offset] ^= 1;
            assert_eq!(Snapshot::decode(&damaged), None, "{offset}");
        }
    }
}
