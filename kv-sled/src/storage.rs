//! Syncing a store's files.
//!
//! sled writes its log to the file `db` and flushes it with `sync_file_range`. That call is not an fsync: it covers
//! neither the length of the file nor the cache of the disk. sled writes large values to separate files in the folder
//! `blobs`, and does not sync these files at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of one store.
#[derive(Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
    db: File,
    blobs: PathBuf,
    /// The modification time of the folder `blobs` and the greatest file number in it, both at the last sync.
    synced: Option<(SystemTime, u64)>,
}

impl Storage {
    /// Opens the files of a store that sled has opened before.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let (db, blobs) = (File::open(folder.join("db"))?, folder.join("blobs"));
        Ok(Self { folder: folder.to_owned(), db, blobs, synced: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Syncs all files, the folder and its parent.
    pub(crate) fn sync_all(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // sled has just replaced a snapshot.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.synced = None;
        self.sync()?;
        File::open(&self.folder)?.sync_all()?;
        match self.folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Syncs the changes since the last sync: the log, and new files of large values.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        // Sync the large values first, because the log refers to them.
        let modified = fs::metadata(&self.blobs)?.modified()?;
        let last = match self.synced {
            // The folder is unchanged, unless its modification time is so recent that a later change may have the same
            // time.
            Some((synced, last)) if synced == modified && !is_recent(modified) => last,
            Some((_, last)) => self.sync_blobs(Some(last))?,
            None => self.sync_blobs(None)?,
        };
        self.synced = Some((modified, last));
        self.db.sync_data()
    }

    /// Syncs the files in `blobs` whose number is at least `from`, and then the folder. Returns the greatest number.
    fn sync_blobs(&self, from: Option<u64>) -> io::Result<u64> {
        let mut greatest = from.unwrap_or(0);
        let mut has_synced = false;
        for entry in fs::read_dir(&self.blobs)? {
            let path = entry?.path();
            // sled names a file in `blobs` by its log position, which only grows, so new files have greater numbers.
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(number) = number else { continue };
            if from.is_some_and(|from| number < from) {
                continue;
            }
            greatest = greatest.max(number);
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // The value was overwritten, and sled has removed its file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            has_synced = true;
        }
        if has_synced {
            File::open(&self.blobs)?.sync_all()?;
        }
        Ok(greatest)
    }
}

/// True if a modification time is so recent that a later change may get the same time, because file systems round
/// times.
#[expect(
    clippy::disallowed_methods,
    reason = "the file system stamps files with the system's clock, so no other clock compares with it"
)]
fn is_recent(time: SystemTime) -> bool {
    SystemTime::now().duration_since(time).is_ok_and(|age| age.as_millis() < 50)
}
