//! Gaps in the log that would make sled erase the log.
//!
//! sled frees a segment as soon as no live page is in it. When sled opens, it even frees segments of the
//! [tail](crate::salvage::Tail), and it does not see that the header of a later segment still makes a reader begin at
//! the freed segment. Many writes lead to this state; the padding of [`reclaim`](crate::reclaim) is one of them, because
//! a whole segment then holds only replaced records. The snapshot that sled has just written hides the gap. If that
//! snapshot is lost or damaged, or a loss of power brings back an older one, sled takes the log for torn and erases it.
//!
//! Therefore this module looks for a gap before sled opens the log. If the records of the other segments match the tree
//! checksum, nothing live was in the missing segments, so this module writes empty segments in their place. sled reads
//! them, and frees them again. After a store was closed, this module does the same, so that the log of a closed store
//! can be read without its snapshot.

use std::io;
use std::path::Path;

use kv_core::{Error, ErrorKind, Result};

use crate::clean_marker;
use crate::error::from_io;
use crate::salvage::{Files, Snapshot, Tail};
use crate::verify::verify;

/// The result of a search for a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogGap {
    /// There was no gap that matters: sled reads everything that was acknowledged.
    Absent,
    /// The missing segments were replaced by empty segments.
    Filled,
    /// Another store has the folder open and may be writing the log.
    Locked,
}

/// Fills a gap in the log. Must be called after damaged snapshots were set aside, and while this process does not have
/// the store open.
///
/// # Errors
/// `Corrupt` if sled would lose entries because of the gap, and filling the gap does not help. In this case, no file is
/// changed. Also errors of the file system.
pub(crate) fn fill(folder: &Path) -> Result<LogGap> {
    let Some(files) = unless_locked(Files::open(folder))? else { return Ok(LogGap::Locked) };
    let tail = Tail::read(&files, snapshot_end(folder)?)?;
    drop(files);
    if tail.missing.is_empty() {
        return Ok(LogGap::Absent);
    }
    let is_whole = match verify(folder) {
        Ok(found) => found.is_whole,
        Err(error) if error.kind() == ErrorKind::Unavailable => return Ok(LogGap::Locked),
        Err(error) if error.kind() == ErrorKind::Corrupt => false,
        Err(error) => return Err(error),
    };
    if !is_whole {
        // A crash can interrupt the writing of the last segments. sled then rightly ignores what follows the gap.
        let is_crash = !tail.was_written && clean_marker::read(folder).is_none();
        return if is_crash { Ok(LogGap::Absent) } else { Err(segments_are_missing()) };
    }
    let Some(files) = unless_locked(Files::open_to_repair(folder))? else { return Ok(LogGap::Locked) };
    // Read again under the exclusive lock, because another process may have opened the store since the first time.
    if Tail::read(&files, snapshot_end(folder)?)? != tail {
        return Ok(LogGap::Locked);
    }
    if tail.fill(&files)? { Ok(LogGap::Filled) } else { Err(segments_are_missing()) }
}

/// Fills a gap in the log of a store that has just been closed. The snapshot is not needed to read the log after this.
/// There must be a clean-shutdown marker: it proves that sled has written the whole log, so each missing segment is one
/// that sled has freed.
///
/// # Errors
/// Errors of the file system, and `Unavailable` if another store has opened the folder since.
pub(crate) fn fill_after_closing(folder: &Path) -> Result<()> {
    if clean_marker::read(folder).is_none() {
        return Ok(());
    }
    let files = Files::open_to_repair(folder)?;
    let _is_filled = Tail::read(&files, 0)?.fill(&files)?;
    Ok(())
}

fn segments_are_missing() -> Error {
    Error::corrupt(
        "segments are missing in sled's log, and sled would erase the rest: no file was changed; \
         save the readable entries with `kv verify --salvage` or `kv_sled::export`",
    )
}

/// The log position at which the snapshot ends that sled will use. Zero if there is no snapshot.
fn snapshot_end(folder: &Path) -> Result<u64> {
    let read = || -> io::Result<u64> {
        let Some(path) = Snapshot::last(folder)? else { return Ok(0) };
        Ok(Snapshot::decode(&std::fs::read(path)?).map_or(0, |snapshot| snapshot.end))
    };
    read().map_err(|error| from_io(error, "the snapshots of the store cannot be read"))
}

/// `None` if the files are locked.
fn unless_locked(opened: Result<Files>) -> Result<Option<Files>> {
    match opened {
        Ok(files) => Ok(Some(files)),
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}
