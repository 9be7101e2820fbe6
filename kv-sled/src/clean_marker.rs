//! The clean-shutdown marker: a file beside sled's files that holds the tree checksum at closing.
//!
//! A crash leaves an unreadable end of the log, so sled truncates its log at the first part that it cannot read. sled
//! does the same if there was no crash, but the last writes are damaged or the end of the log is missing. The marker
//! distinguishes a crash from such damage: a store with a marker was closed, and must still have the records that it
//! had at closing. The marker exists from closing to the next write: the store syncs the marker after the data that it
//! describes, and removes the marker before that data changes.
//!
//! | bytes | content |
//! |---|---|
//! | 0–21 | the [tree checksum](crate::tree_checksum) |
//! | 22–25 | CRC-32 of bytes 0–21, little-endian; a marker that does not match this CRC-32 is ignored |

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::permissions;
use crate::tree_checksum::TreeChecksum;

pub(crate) const FILE_NAME: &str = "sealed";

/// Writes the marker. The caller must have synced the store's files.
pub(crate) fn write(folder: &Path, checksum: TreeChecksum) -> io::Result<()> {
    let (new, checksum) = (folder.join("sealed.new"), checksum.encode());
    let mut file = permissions::create_file(&new)?;
    file.write_all(&checksum)?;
    file.write_all(&crc32fast::hash(&checksum).to_le_bytes())?;
    file.sync_all()?;
    fs::rename(new, folder.join(FILE_NAME))?;
    File::open(folder)?.sync_all()
}

/// Reads the marker. `None` if the marker is missing or damaged.
pub(crate) fn read(folder: &Path) -> Option<TreeChecksum> {
    let bytes = fs::read(folder.join(FILE_NAME)).ok()?;
    let (checksum, crc) = bytes.split_last_chunk()?;
    (crc32fast::hash(checksum) == u32::from_le_bytes(*crc)).then(|| TreeChecksum::decode(checksum).ok())?
}

/// Removes the marker. The worker calls this method before the first write, because that write makes the marker wrong.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILE_NAME)) {
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_until_it_is_removed_and_a_damaged_marker_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let mut checksum = TreeChecksum::default();
        checksum.add(b"da", b"1");
        assert_eq!(read(folder.path()), None);
        write(folder.path(), checksum).unwrap();
        assert_eq!(read(folder.path()), Some(checksum));
        let file = folder.path().join(FILE_NAME);
        let intact = fs::read(&file).unwrap();
        for offset in 0..intact.len() {
            let mut damaged = intact.clone();
            damaged[offset] ^= 1;
            fs::write(&file, damaged).unwrap();
            assert_eq!(read(folder.path()), None, "{offset}");
            fs::write(&file, &intact[..offset]).unwrap();
            assert_eq!(read(folder.path()), None, "{offset}");
        }
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(read(folder.path()), None);
    }
}
