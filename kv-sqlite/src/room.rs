//! The room on the disk for writes that make the database larger.
//!
//! A full disk would be a dead end: a delete needs room in the log, and the log is emptied only when everything in it
//! fits into the file. So writes that need room are refused while less than `min_free` would be left, and deletes and
//! sweeps use that reserve.

use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::open_files::OpenFiles;

/// The free space in bytes above which the exact room is not computed.
const PLENTY: u64 = 64 << 20;

/// The room in bytes at which the log is emptied to gain more.
const LOW: u64 = 2 << 20;

/// The pages that a write of a small value changes: a leaf of each tree, and their parents.
const PAGES_OF_WRITE: u64 = 2;

/// The additional pages that a write changes and does not add.
const CHANGED_PAGES: u64 = 6;

/// The time to wait for readers when the log is emptied.
const READERS_WAIT: Duration = Duration::from_millis(100);

/// Bytes that writes may take, as measured before a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// The free space above the reserve.
    free: u64,
    /// The unused space inside the file.
    free_in_file: u64,
    /// The size of the log that the next commits overwrite.
    free_in_log: u64,
    page_size: u64,
    is_limited: bool,
}

impl Room {
    /// The room of a store in memory.
    pub(crate) const UNLIMITED: Self =
        Self { free: 0, free_in_file: 0, free_in_log: 0, page_size: 1, is_limited: false };

    /// Measures the room for writes with these numbers of bytes. Empties the log if the room is low.
    pub(crate) fn measure(files: &OpenFiles, connection: &Connection, min_free: u64, writes: &[usize]) -> Self {
        let Some(free) = files.free_space() else { return Self::UNLIMITED };
        let (log, page_size) = (files.log_length(), files.page_size);
        // The file can still grow by as much as the log holds.
        let above = free.saturating_sub(min_free).saturating_sub(log);
        let room = Self { free: above, free_in_file: 0, free_in_log: 0, page_size, is_limited: true };
        let needed = Taken::of(writes, page_size);
        files.hold_log(connection, false);
        if above >= PLENTY && room.has(needed) {
            return room;
        }
        match Self::exact(files, connection, free, min_free, 0) {
            Some(room) if room.free >= LOW && room.has(needed) => return room,
            Some(_) => {}
            None => {
                files.hold_log(connection, true);
                return Self { free: 0, ..room };
            }
        }
        let free_in_log = if empty_log(files, connection) { files.log_length() } else { 0 };
        let free = files.free_space().unwrap_or(free);
        Self::exact(files, connection, free, min_free, free_in_log).unwrap_or(Self { free: 0, ..room })
    }

    /// `None` if the file system has less room than the content of the log needs in the file.
    fn exact(files: &OpenFiles, connection: &Connection, free: u64, min_free: u64, free_in_log: u64) -> Option<Self> {
        let free = free.checked_sub(owed(files, connection))?.saturating_sub(min_free);
        let free_in_file = pages(files, connection, "PRAGMA freelist_count");
        Some(Self { free, free_in_file, free_in_log, page_size: files.page_size, is_limited: true })
    }

    fn has(&self, taken: Taken) -> bool {
        let in_file = taken.in_file.saturating_sub(self.free_in_file);
        let in_log = taken.in_log.saturating_sub(self.free_in_log);
        !self.is_limited || in_file + in_log <= self.free
    }
}

/// Bytes that the writes of a batch take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    in_file: u64,
    in_log: u64,
}

impl Taken {
    fn of(writes: &[usize], page_size: u64) -> Self {
        writes.iter().fold(Self::default(), |taken, bytes| taken.and(*bytes, page_size))
    }

    /// With another write of this number of bytes.
    fn and(self, bytes: usize, page_size: u64) -> Self {
        let pages = (bytes as u64).div_ceil(page_size) + PAGES_OF_WRITE;
        // A page of the log has a header of less than a hundredth.
        let logged = (pages + CHANGED_PAGES) * (page_size + page_size / 100);
        Self { in_file: self.in_file + pages * page_size, in_log: self.in_log + logged }
    }

    /// Adds a write of this number of bytes, if the room has it.
    ///
    /// # Errors
    /// `Capacity` if it has not.
    pub(crate) fn add(&mut self, bytes: usize, room: &Room) -> Result<()> {
        let taken = self.and(bytes, room.page_size);
        if !room.has(taken) {
            return Err(Error::capacity("the disk has no more free space than the store keeps for deletes"));
        }
        *self = taken;
        Ok(())
    }
}

/// The size in bytes of a number of pages that SQLite counts.
fn pages(files: &OpenFiles, connection: &Connection, pragma: &str) -> u64 {
    let count = connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    u64::try_from(count).unwrap_or(0) * files.page_size
}

/// The bytes by which the file grows when the log is copied into it.
fn owed(files: &OpenFiles, connection: &Connection) -> u64 {
    pages(files, connection, "PRAGMA page_count").saturating_sub(files.length())
}

/// True if the content of the log fits into the file. If not, an attempt to copy it would only use up the free space.
pub(crate) fn log_fits(files: &OpenFiles, connection: &Connection) -> bool {
    files.free_space().is_none_or(|free| free >= owed(files, connection))
}

/// Copies the log into the file, so that the next commits overwrite it; false if that did not succeed.
///
/// The log keeps its size, because it is room that no other program can take.
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
    fn a_write_takes_room_in_the_file_and_in_the_log() {
        let room = Room { free: 250_000, free_in_file: 0, free_in_log: 0, page_size: PAGE, is_limited: true };
        let mut taken = Taken::default();
        assert!(taken.add(100_000, &room).is_ok());
        assert_eq!(taken.add(100_000, &room).unwrap_err().kind(), kv_core::ErrorKind::Capacity);
        // A refused write takes nothing.
        assert!(Room { free: 500_000, ..room }.has(taken.and(100_000, PAGE)));
    }

    #[test]
    fn a_write_into_free_pages_and_an_emptied_log_needs_no_room() {
        let room = Room { free: 0, free_in_file: 1 << 20, free_in_log: 1 << 20, page_size: PAGE, is_limited: true };
        assert!(Taken::default().add(100_000, &room).is_ok());
        assert!(Taken::default().add(2 << 20, &room).is_err());
        assert!(Taken::default().add(2 << 20, &Room::UNLIMITED).is_ok());
    }
}
