//! The store's folder: checked before sled opens it, and awaited after sled closes it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use kv_core::{Clock, Error, Result, SystemClock};

use crate::clean_marker;
use crate::error::from_io;

/// Creates the folder if it does not exist. Refuses a folder that sled would overwrite or silently initialise again.
///
/// # Errors
/// `Invalid` for a path that is no folder or a folder of something else, `Corrupt` for a store that lost files,
/// `Denied` and `Capacity` for errors of the file system.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::invalid("the path is a file; a store needs a folder of its own"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::create_dir_all(folder).map_err(|error| from_io(error, "the folder cannot be created"));
        }
        Err(error) => return Err(from_io(error, "the path cannot be read")),
    }
    let (mut has_log, mut has_config, mut has_store_files, mut has_other) = (false, false, false, false);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        match name.to_str() {
            Some("db") => has_log = true,
            Some("conf") => has_config = true,
            Some("blobs") => {}
            Some(name) if name.starts_with("snap.") || name == clean_marker::FILE_NAME => has_store_files = true,
            _ => has_other = true,
        }
    }
    match (has_log, has_config) {
        (true, false) => Err(Error::corrupt(
            "the folder has a file `db` without sled's configuration `conf`: it is damaged, or no store",
        )),
        (false, _) if has_store_files => {
            Err(Error::corrupt("the folder has files of a store, but sled's log `db` is missing"))
        }
        (false, false) if has_other => {
            Err(Error::invalid("the folder holds files of something else; a store needs a folder of its own"))
        }
        // sled writes its configuration first: without a log, an earlier opening was interrupted.
        (true | false, true) | (false, false) => Ok(()),
    }
}

/// Waits until sled has released its lock on the files, for at most a second.
///
/// sled's threads still hold references when a database is dropped, so the lock outlives it for a moment. Another
/// opener would be refused in that moment.
pub(crate) async fn wait_until_released(folder: &Path) {
    for _ in 0..RELEASE_STEPS {
        let Ok(log) = fs::File::open(folder.join("db")) else { return };
        match log.try_lock() {
            Err(fs::TryLockError::WouldBlock) => SystemClock.sleep(RELEASE_STEP).await,
            // Closing the file releases the lock that was just taken.
            Ok(()) | Err(fs::TryLockError::Error(_)) => return,
        }
    }
}

const RELEASE_STEPS: u32 = 500;
const RELEASE_STEP: Duration = Duration::from_millis(2);

fn unreadable(error: io::Error) -> Error {
    from_io(error, "the folder cannot be read")
}

#[cfg(test)]
mod tests {
    use kv_core::ErrorKind;

    use super::*;

    #[test]
    fn only_an_empty_folder_or_one_of_a_store_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kind = |name: &str| prepare(&at(name)).map_err(|error| error.kind());
        assert_eq!(kind("missing/parent/too"), Ok(()));
        assert!(at("missing/parent/too").is_dir());

        fs::write(at("file"), "precious").unwrap();
        assert_eq!(kind("file"), Err(ErrorKind::Invalid));
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");

        for (name, files, expected) in [
            ("foreign", &["notes.txt"][..], Err(ErrorKind::Invalid)),
            ("half", &["db"], Err(ErrorKind::Corrupt)),
            ("lost", &["conf", "snap.0000000000000001"], Err(ErrorKind::Corrupt)),
            ("sealed", &["conf", "sealed"], Err(ErrorKind::Corrupt)),
            ("begun", &["conf", "blobs"], Ok(())),
            ("ours", &["conf", "db", "blobs"], Ok(())),
        ] {
            fs::create_dir(at(name)).unwrap();
            for file in files {
                fs::write(at(name).join(file), "").unwrap();
            }
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
