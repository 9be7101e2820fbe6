//! The free space for writes that make the database larger.
//!
//! Without a reserve, no entry could be removed from a full disk: a delete needs space in the write-ahead log (below:
//! the log), and the log can be emptied only if its content fits into the database file. Therefore a write that makes
//! the database larger is refused if less than `min_free` would be left. Deletes, clears and sweeps may use this
//! reserve.

use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::open_files::OpenFiles;

/// The number of free bytes at which an estimate is enough, so that the exact free space is not computed.
const PLENTY: u64 = 64 << 20;

/// The number of free bytes below which the log is emptied to gain space.
const LOW: u64 = 2 << 20;

/// The number of pages that a write may add in addition to the pages of its value.
const ADDED_PAGES: u64 = 2;

/// The number of existing pages that a write may change.
const CHANGED_PAGES: u64 = 6;

/// The longest time to wait for readers when the log is emptied.
const READERS_WAIT: Duration = Duration::from_millis(100);

/// The free space for the writes of a batch, in bytes, measured before the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FreeSpace {
    /// The free space of the file system above the reserve.
    on_disk: u64,
    /// The size of the free pages inside the file.
    in_file: u64,
    /// The length of an emptied log, which the next commits overwrite.
    in_log: u64,
    page_size: u64,
    is_limited: bool,
}

impl FreeSpace {
    /// The free space of a store in memory, or of a file system that does not report its free space.
    pub(crate) const UNLIMITED: Self = Self { on_disk: 0, in_file: 0, in_log: 0, page_size: 1, is_limited: false };

    /// Measures the free space. `writes` are the numbers of bytes of the waiting writes. If the free space is low or
    /// too small for these writes, this function empties the log.
    pub(crate) fn measure(files: &OpenFiles, connection: &Connection, min_free: u64, writes: &[usize]) -> Self {
        let Some(available) = files.free_space() else { return Self::UNLIMITED };
        let (log, page_size) = (files.log_length(), files.page_size);
        // The estimate: a checkpoint makes the file larger by at most the length of the log.
        let on_disk = available.saturating_sub(min_free).saturating_sub(log);
        let estimate = Self { on_disk, in_file: 0, in_log: 0, page_size, is_limited: true };
        let needed = NeededSpace::of(writes, page_size);
        files.pause_checkpoints(connection, false);
        if on_disk >= PLENTY && estimate.fits(needed) {
            return estimate;
        }
        match Self::exact(files, connection, available, min_free, 0) {
            Some(exact) if exact.on_disk >= LOW && exact.fits(needed) => return exact,
            Some(_) => {}
            None => {
                // A checkpoint would fail, and would use up the free space.
                files.pause_checkpoints(connection, true);
                return Self { on_disk: 0, ..estimate };
            }
        }
        let in_log = if empty_log(files, connection) { files.log_length() } else { 0 };
        let available = files.free_space().unwrap_or(available);
        Self::exact(files, connection, available, min_free, in_log).unwrap_or(Self { on_disk: 0, ..estimate })
    }

    /// Computes the exact free space; `None` if the content of the log does not fit into the file.
    fn exact(files: &OpenFiles, connection: &Connection, available: u64, min_free: u64, in_log: u64) -> Option<Self> {
        let on_disk = available.checked_sub(checkpoint_growth(files, connection))?.saturating_sub(min_free);
        let in_file = pages(files, connection, "PRAGMA freelist_count");
        Some(Self { on_disk, in_file, in_log, page_size: files.page_size, is_limited: true })
    }

    /// True if the free space is enough for these needs.
    fn fits(&self, needed: NeededSpace) -> bool {
        let for_file = needed.in_file.saturating_sub(self.in_file);
        let for_log = needed.in_log.saturating_sub(self.in_log);
        !self.is_limited || for_file + for_log <= self.on_disk
    }
}

/// The number of bytes that the writes of a batch need.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NeededSpace {
    in_file: u64,
    in_log: u64,
}

impl NeededSpace {
    fn of(writes: &[usize], page_size: u64) -> Self {
        writes.iter().fold(Self::default(), |needed, bytes| needed.plus(*bytes, page_size))
    }

    /// Returns the sum of these needs and the needs of a write of `bytes` bytes.
    fn plus(self, bytes: usize, page_size: u64) -> Self {
        let pages = (bytes as u64).div_ceil(page_size) + ADDED_PAGES;
        // The log stores each page with a header, which takes less than a hundredth of the page.
        let logged = (pages + CHANGED_PAGES) * (page_size + page_size / 100);
        Self { in_file: self.in_file + pages * page_size, in_log: self.in_log + logged }
    }

    /// Adds the needs of a write of `bytes` bytes.
    ///
    /// # Errors
    /// `Capacity` if the free space is not enough. Then nothing is added.
    pub(crate) fn add(&mut self, bytes: usize, free: &FreeSpace) -> Result<()> {
        let needed = self.plus(bytes, free.page_size);
        if !free.fits(needed) {
            return Err(Error::capacity("the disk has no free space except the reserve for deletes"));
        }
        *self = needed;
        Ok(())
    }
}

/// Returns the size in bytes of the pages that a pragma of SQLite counts.
fn pages(files: &OpenFiles, connection: &Connection, pragma: &str) -> u64 {
    let count = connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    u64::try_from(count).unwrap_or(0) * files.page_size
}

/// Returns the number of bytes by which the file grows when a checkpoint copies the log into it.
fn checkpoint_growth(files: &OpenFiles, connection: &Connection) -> u64 {
    pages(files, connection, "PRAGMA page_count").saturating_sub(files.length())
}

/// True if the file system has enough free space for a checkpoint. If the space is not enough, an attempt would only
/// use up the free space.
pub(crate) fn log_fits(files: &OpenFiles, connection: &Connection) -> bool {
    files.free_space().is_none_or(|free| free >= checkpoint_growth(files, connection))
}

/// Copies the log into the file, so that the next commits overwrite the log. Returns false if that did not succeed.
///
/// The log is not truncated, so that other programs cannot use the space of the log.
pub(crate) fn empty_log(files: &OpenFiles, connection: &Connection) -> bool {
    if !log_fits(files, connection) {
        return false;
    }
    let timeout: i64 = connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0)).unwrap_or(0);
    let _ = connection.busy_timeout(READERS_WAIT);
    let emptied = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0 && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    });
    let _ = connection.busy_timeout(Duration::from_millis(u64::try_from(timeout).unwrap_or(0)));
    emptied.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4_096;

    #[test]
    fn a_write_needs_space_in_the_file_and_in_the_log() {
        let free = FreeSpace { on_disk: 250_000, in_file: 0, in_log: 0, page_size: PAGE, is_limited: true };
        let mut needed = NeededSpace::default();
        assert!(needed.add(100_000, &free).is_ok());
        assert_eq!(needed.add(100_000, &free).unwrap_err().kind(), kv_core::ErrorKind::Capacity);
        // The needs of the refused write were not added. Otherwise this write would not fit either.
        assert!(FreeSpace { on_disk: 500_000, ..free }.fits(needed.plus(100_000, PAGE)));
    }

    #[test]
    fn a_write_into_free_pages_and_an_emptied_log_needs_no_space_on_the_disk() {
        let free = FreeSpace { on_disk: 0, in_file: 1 << 20, in_log: 1 << 20, page_size: PAGE, is_limited: true };
        assert!(NeededSpace::default().add(100_000, &free).is_ok());
        assert!(NeededSpace::default().add(2 << 20, &free).is_err());
        assert!(NeededSpace::default().add(2 << 20, &FreeSpace::UNLIMITED).is_ok());
    }
}
