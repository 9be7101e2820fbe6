//! The seal: what a store held when it was closed in order, in a file beside sled's.
//!
//! sled cuts its log off where it cannot read on, for that is what a crash leaves behind. So damage to the last writes, and a
//! log that has lost its end, look like a crash to it. The seal tells: it is there from closing until the next write, on the
//! medium later than what it speaks of and gone from there before that changes.
//!
//! | bytes | what |
//! |---|---|
//! | 0–21 | the [ledger](crate::ledger) |
//! | 22–25 | its CRC-32, little-endian; a seal that does not match it is none |

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::ledger::Ledger;

/// The file's name.
pub(crate) const NAME: &str = "sealed";

/// Says that this is what the files hold, which must be on the medium.
pub(crate) fn put(folder: &Path, ledger: Ledger) -> io::Result<()> {
    let (new, seal) = (folder.join("sealed.new"), ledger.encode());
    let mut file = File::create(&new)?;
    file.write_all(&seal)?;
    file.write_all(&crc32fast::hash(&seal).to_le_bytes())?;
    file.sync_all()?;
    fs::rename(new, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

/// What the files held when the store was closed, where it was and nothing was written since.
pub(crate) fn read(folder: &Path) -> Option<Ledger> {
    let bytes = fs::read(folder.join(NAME)).ok()?;
    let (seal, check) = bytes.split_last_chunk()?;
    (crc32fast::hash(seal) == u32::from_le_bytes(*check)).then(|| Ledger::decode(seal).ok())?
}

/// Before anything is written.
pub(crate) fn take_off(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(NAME)) {
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_reads_back_until_it_is_taken_off_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        ledger.add(b"da", b"1");
        assert_eq!(read(folder.path()), None);
        put(folder.path(), ledger).unwrap();
        assert_eq!(read(folder.path()), Some(ledger));
        let file = folder.path().join(NAME);
        let sound = fs::read(&file).unwrap();
        for place in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[place] ^= 1;
            fs::write(&file, damaged).unwrap();
            assert_eq!(read(folder.path()), None, "{place}");
            fs::write(&file, &sound[..place]).unwrap();
            assert_eq!(read(folder.path()), None, "{place}");
        }
        take_off(folder.path()).unwrap();
        take_off(folder.path()).unwrap();
        assert_eq!(read(folder.path()), None);
    }
}
