//! Detecting that a store's files were removed, replaced or emptied while the store is open.
//!
//! sled continues to write to its open files even if they were removed or moved. Without this check, the store would
//! acknowledge writes that are missing after the next opening.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The open files and their paths.
#[derive(Debug)]
pub(crate) struct Presence {
    log: File,
    log_path: PathBuf,
    log_id: FileId,
    blobs_path: PathBuf,
    blobs_id: FileId,
    /// True if the header of the log's first segment was seen to be in use. sled does not clear that header again while
    /// the store is open.
    has_first_segment: bool,
}

/// The device and the inode of a file. On other systems than Unix, all files have the same number, so only a missing
/// file is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(not(unix))]
    fn of(_metadata: &fs::Metadata) -> Self {
        Self(0, 0)
    }
}

/// The number of bytes of a segment's header.
const HEADER_BYTES: usize = 20;

impl Presence {
    /// Remembers the files of a store that sled has just opened.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let (log_path, blobs_path) = (folder.join("db"), folder.join("blobs"));
        let log = File::open(&log_path)?;
        let (log_id, blobs_id) = (FileId::of(&log.metadata()?), FileId::of(&fs::metadata(&blobs_path)?));
        Ok(Self { log, log_path, log_id, blobs_path, blobs_id, has_first_segment: false })
    }

    /// Returns an error text if the files were removed, replaced or emptied. Costs a few short system calls.
    pub(crate) fn problem(&mut self) -> Option<&'static str> {
        let is_at = |path: &Path, id| fs::metadata(path).is_ok_and(|metadata| FileId::of(&metadata) == id);
        if !is_at(&self.log_path, self.log_id) {
            return Some("the log `db` of the store was removed or replaced while the store was open");
        }
        if !is_at(&self.blobs_path, self.blobs_id) {
            return Some("the folder `blobs` of the store was removed or replaced while the store was open");
        }
        let header = self.first_header().ok()?;
        let is_in_use = header.iter().any(|&byte| byte != 0);
        let is_emptied = header.len() < HEADER_BYTES || (self.has_first_segment && !is_in_use);
        self.has_first_segment |= is_in_use;
        is_emptied.then_some("the log `db` of the store was truncated while the store was open")
    }

    /// Reads the header of the log's first segment. Returns fewer bytes if the log is shorter.
    fn first_header(&self) -> io::Result<Vec<u8>> {
        use std::io::{Read, Seek};
        let mut log = &self.log;
        log.rewind()?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        log.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
        Ok(header)
    }
}
