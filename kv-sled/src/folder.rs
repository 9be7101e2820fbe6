//! What stands at the path, before sled gets to see it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use kv_core::{Clock, Error, Result, SystemClock};

use crate::error::from_io;
use crate::seal;

/// Makes the folder where there is none, and refuses what sled would overwrite or silently start anew.
///
/// # Errors
/// `Invalid` for a path that is no folder or a folder of something else, `Corrupt` for a store that lost files, `Denied` and
/// `Capacity` as the file system says.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::invalid("the path is a file; a store needs a folder of its own"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::create_dir_all(folder).map_err(|error| from_io(error, "the folder cannot be made"));
        }
        Err(error) => return Err(from_io(error, "the path cannot be read")),
    }
    let (mut has_log, mut has_settings, mut has_remains, mut has_other) = (false, false, false, false);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        match name.to_str() {
            Some("db") => has_log = true,
            Some("conf") => has_settings = true,
            Some("blobs") => {}
            Some(name) if name.starts_with("snap.") || name == seal::NAME => has_remains = true,
            _ => has_other = true,
        }
    }
    match (has_log, has_settings) {
        (true, false) => Err(Error::corrupt(
            "the folder has a file `db` without sled's settings beside it: it is damaged, or no store",
        )),
        (false, _) if has_remains => Err(Error::corrupt("the folder was a store's, but sled's log `db` is gone")),
        (false, false) if has_other => {
            Err(Error::invalid("the folder holds files that are not a store's; a store needs a folder of its own"))
        }
        // The settings are what sled writes first: without a log, opening was cut short.
        (true | false, true) | (false, false) => Ok(()),
    }
}

/// Waits until sled has let go of its files, for a second at most.
///
/// Dropping a database does not end what its threads still hold of it, so the lock outlives it for a moment, and who opens
/// the folder then would be refused.
pub(crate) async fn released(folder: &Path) {
    for _ in 0..RELEASE_STEPS {
        let Ok(log) = fs::File::open(folder.join("db")) else { return };
        match log.try_lock() {
            Err(fs::TryLockError::WouldBlock) => SystemClock.sleep(RELEASE_STEP).await,
            // Closing the file gives the lock back.
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
    fn only_a_folder_of_its_own_is_taken() {
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
