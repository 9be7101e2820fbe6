//! The files of a store that is not open.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kv_core::{Error, Result};

use crate::error::from_io;
use crate::folder;

/// The number of bytes of a segment of the log: sled's default, which this crate never changes.
pub(crate) const SEGMENT_BYTES: usize = 512 << 10;

/// The files of a store under a lock. No caller can open the store meanwhile. With a shared lock, other readers can have
/// the same lock.
#[derive(Debug)]
pub(crate) struct Files {
    log: File,
    blobs: PathBuf,
}

impl Files {
    /// Opens and locks the files.
    ///
    /// # Errors
    /// `Invalid` if there is no store, `Corrupt` if the log is missing, `Unavailable` if a store has the folder open,
    /// and errors of the file system.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        folder::check_exists(folder)?;
        let log = File::open(folder.join("db")).map_err(unreadable)?;
        let locked = log.try_lock_shared();
        Self::with_lock(folder, log, locked)
    }

    /// Opens the files to write to the log, under an exclusive lock.
    ///
    /// # Errors
    /// The errors of [`Files::open`].
    pub(crate) fn open_to_repair(folder: &Path) -> Result<Self> {
        folder::check_exists(folder)?;
        let log = File::options().read(true).write(true).open(folder.join("db")).map_err(unwritable)?;
        let locked = log.try_lock();
        Self::with_lock(folder, log, locked)
    }

    fn with_lock(folder: &Path, log: File, locked: Result<(), fs::TryLockError>) -> Result<Self> {
        match locked {
            Ok(()) => Ok(Self { log, blobs: folder.join("blobs") }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Error::unavailable("the folder is open, in this process or another; close the store first"))
            }
            Err(fs::TryLockError::Error(error)) => Err(from_io(error, "the log of the store cannot be locked")),
        }
    }

    /// The number of segments of the log. The last segment may be incomplete.
    pub(crate) fn segments(&self) -> Result<u64> {
        let length = self.log.metadata().map_err(unreadable)?.len();
        Ok(length.div_ceil(SEGMENT_BYTES as u64))
    }

    /// Reads a segment. Returns fewer bytes if the log ends in this segment.
    pub(crate) fn segment(&self, number: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; SEGMENT_BYTES];
        let read = self.read_at(&mut bytes, number * SEGMENT_BYTES as u64).map_err(unreadable)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads `length` bytes of the log at an offset; `None` if the log is too short.
    pub(crate) fn log(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        let read = self.read_at(&mut bytes, offset).map_err(unreadable)?;
        Ok((read == length).then_some(bytes))
    }

    /// Reads the file of a large value, without the checksum in front; `None` if the file is missing or damaged.
    pub(crate) fn blob(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = match fs::read(self.blobs.join(number.to_string())) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(from_io(error, "a large value of the store cannot be read")),
        };
        let Some((&crc, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        if crc32fast::hash(rest) != u32::from_le_bytes(crc) || rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(bytes.split_off(5)))
    }

    /// Makes the log at least this long.
    pub(crate) fn extend_to(&self, length: u64) -> Result<()> {
        if self.log.metadata().map_err(unwritable)?.len() < length {
            self.log.set_len(length).map_err(unwritable)?;
        }
        Ok(())
    }

    /// Writes bytes at an offset of the log, and syncs the log.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        use io::{Seek, Write};
        let mut log = &self.log;
        let written = log.seek(io::SeekFrom::Start(offset)).and_then(|_offset| log.write_all(bytes));
        written.and_then(|()| log.sync_all()).map_err(unwritable)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        use io::{Read, Seek};
        let mut log = &self.log;
        log.seek(io::SeekFrom::Start(offset))?;
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match log.read(rest) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

fn unreadable(error: io::Error) -> Error {
    from_io(error, "the log of the store cannot be read")
}

fn unwritable(error: io::Error) -> Error {
    from_io(error, "the log of the store cannot be repaired")
}
