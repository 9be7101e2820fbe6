//! Removing files of large values that sled has left.
//!
//! sled keeps the list of files that it will remove only in memory. So if the process is killed, the files of replaced
//! values remain. sled also leaves some files of replaced pages of many long keys. It never removes these files later.
//!
//! At opening, sled reads its log and writes a snapshot of its page table, which names the file of every page that has
//! one. Until the first write after opening, the snapshot is exactly the state of sled. sled numbers each new file
//! with the current log position, so later files have greater numbers than the end of the snapshot. A file with a
//! smaller number that is not in the snapshot is an orphan: no page refers to it, and no page ever will.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::salvage::Snapshot;
use crate::storage::Storage;

/// Removes the orphans. Must be called after sled has opened the files and before the first write. Returns the number
/// of orphans. Removes nothing if the snapshot does not agree with the files.
///
/// # Errors
/// The errors of the file system.
pub(crate) fn remove(storage: &mut Storage) -> io::Result<usize> {
    let folder = storage.folder().to_owned();
    let orphans = find(&folder)?;
    if orphans.is_empty() {
        return Ok(0);
    }
    // The log has messages that replace the orphans. If a loss of power undid these messages, sled would need the
    // orphans again.
    storage.sync_all()?;
    for orphan in &orphans {
        fs::remove_file(folder.join("blobs").join(orphan.to_string()))?;
    }
    Ok(orphans.len())
}

/// Returns the numbers of the orphans.
fn find(folder: &Path) -> io::Result<Vec<u64>> {
    let files = blobs(folder)?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let Some(path) = Snapshot::last(folder)? else { return Ok(Vec::new()) };
    let Some(Snapshot { end, blobs: used }) = Snapshot::decode(&fs::read(&path)?) else { return Ok(Vec::new()) };
    let is_current = path.file_name().is_some_and(|name| name == format!("snap.{end:016X}").as_str());
    if !is_current || !used.is_subset(&files) {
        return Ok(Vec::new());
    }
    Ok(files.range(..end).filter(|number| !used.contains(number)).copied().collect())
}

/// Returns the numbers of the files of large values. Files with other names are not sled's.
fn blobs(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder.join("blobs"))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| Some((name, name.parse::<u64>().ok()?)));
        numbers.extend(number.filter(|(name, number)| number.to_string() == *name).map(|(_, number)| number));
    }
    Ok(numbers)
}
