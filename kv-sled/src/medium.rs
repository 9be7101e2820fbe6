//! Bringing sled's files to the medium.
//!
//! sled writes its log to the file `db` and hands it to the operating system with `sync_file_range`, which is no fsync: the
//! length of the file and the cache of the disk stay out of it. Values that do not fit a segment it writes to files of their
//! own in `blobs`, without any sync.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of one store.
#[derive(Debug)]
pub(crate) struct Medium {
    folder: PathBuf,
    db: File,
    blobs: PathBuf,
    /// When files were last added to or taken from `blobs`, as of the last sync, and the greatest name then.
    synced: Option<(SystemTime, u64)>,
}

impl Medium {
    /// Opens the files of a store that sled has opened before.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let (db, blobs) = (File::open(folder.join("db"))?, folder.join("blobs"));
        Ok(Self { folder: folder.to_owned(), db, blobs, synced: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings everything to the medium, the folders included.
    pub(crate) fn sync_all(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // A snapshot that sled has just replaced.
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

    /// Brings what changed since the last time to the medium: the log, and new files of large values.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        // Large values first: the log names them.
        let modified = fs::metadata(&self.blobs)?.modified()?;
        let last = match self.synced {
            // Within the resolution of the clock another file may have come.
            Some((then, last)) if then == modified && !is_fresh(modified) => last,
            Some((_, last)) => self.sync_blobs(Some(last))?,
            None => self.sync_blobs(None)?,
        };
        self.synced = Some((modified, last));
        self.db.sync_data()
    }

    /// Syncs the files whose number is at least `from`, and the folder; gives the greatest number.
    fn sync_blobs(&self, from: Option<u64>) -> io::Result<u64> {
        let mut greatest = from.unwrap_or(0);
        let mut has_synced = false;
        for entry in fs::read_dir(&self.blobs)? {
            let path = entry?.path();
            // sled names them by their place in the log, which only grows.
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(number) = number else { continue };
            if from.is_some_and(|from| number < from) {
                continue;
            }
            greatest = greatest.max(number);
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // Overwritten and removed meanwhile.
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

/// Whether a stamp is so young that a later change may carry the same one.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with stamps of the file system, which no other clock makes"
)]
fn is_fresh(stamp: SystemTime) -> bool {
    SystemTime::now().duration_since(stamp).is_ok_and(|age| age.as_millis() < 50)
}
