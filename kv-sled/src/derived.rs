//! Derived files: sled's snapshots and its configuration. sled can write both again.
//!
//! At opening, sled writes a snapshot of its page table and removes the previous snapshot. sled takes every file
//! whose name begins with `snap.` for a snapshot, including a half-written file, and fails to open if the last such
//! file by name is damaged. Without a snapshot, sled reads the whole log. No record is only in a snapshot, because sled
//! frees a part of the log only after all pages of that part were written again in a later part. But sled may have freed
//! a part that it needs to find the end of the log without that snapshot; [`log_gap`](crate::log_gap) mends this.
//! Therefore this module renames a damaged snapshot, and the comparison with the tree checksum then proves that the log
//! alone was enough.
//!
//! The configuration has the same content in every store of this crate. This module renames a damaged configuration if
//! the log can be read completely and matches the tree checksum, because then this crate has written the log. sled
//! writes the configuration again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kv_core::{ErrorKind, Result};

use crate::error::from_io;
use crate::verify::verify;

/// The new name of a damaged snapshot. A later damaged snapshot replaces the file, so that these files take bounded
/// space.
const SNAPSHOT_ASIDE: &str = "damaged.snap";
/// The new name of a damaged configuration.
const CONFIG_ASIDE: &str = "damaged.conf";

/// The result of a search for damaged derived files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DerivedFiles {
    /// No file was damaged.
    Sound,
    /// The damaged files were renamed.
    SetAside,
    /// Another store has the folder open and may be writing these files.
    Locked,
}

/// Renames damaged derived files, so that sled writes them again. Must not be called while this process has the store
/// open.
///
/// # Errors
/// The errors of the file system.
pub(crate) fn set_aside(folder: &Path) -> Result<DerivedFiles> {
    let is_config_damaged = is_config_damaged(folder).map_err(unreadable)? && is_log_whole(folder);
    if !is_config_damaged && damaged_snapshots(folder).map_err(unreadable)?.is_empty() {
        return Ok(DerivedFiles::Sound);
    }
    let log = File::open(folder.join("db")).map_err(unreadable)?;
    match log.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(DerivedFiles::Locked),
        Err(fs::TryLockError::Error(error)) => return Err(unreadable(error)),
    }
    // Check again under the lock, because another process may have finished these files since the first check.
    let rename = || -> io::Result<()> {
        for damaged in damaged_snapshots(folder)? {
            fs::rename(damaged, folder.join(SNAPSHOT_ASIDE))?;
        }
        if is_config_damaged && self::is_config_damaged(folder)? {
            fs::rename(folder.join("conf"), folder.join(CONFIG_ASIDE))?;
        }
        Ok(())
    };
    rename().map_err(|error| from_io(error, "a damaged snapshot or configuration of the store cannot be renamed"))?;
    Ok(DerivedFiles::SetAside)
}

fn unreadable(error: io::Error) -> kv_core::Error {
    from_io(error, "the snapshots or the configuration of the store cannot be read")
}

/// The files that sled takes for snapshots and cannot read.
fn damaged_snapshots(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut damaged = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // sled compares bytes, so a name that is not valid UTF-8 counts, too.
        if name.as_encoded_bytes().starts_with(b"snap.")
            && !name.as_encoded_bytes().ends_with(b".in___motion")
            && !(is_snapshot_name(name.as_encoded_bytes()) && is_sound_snapshot(&entry.path())?)
        {
            damaged.push(entry.path());
        }
    }
    Ok(damaged)
}

/// True for the name of a finished snapshot: `snap.` and a log position in 16 hexadecimal digits. While sled writes a
/// snapshot, `.generating` follows.
fn is_snapshot_name(name: &[u8]) -> bool {
    name.strip_prefix(b"snap.")
        .is_some_and(|position| position.len() == 16 && position.iter().all(u8::is_ascii_hexdigit))
}

/// True if the content of a snapshot matches its CRC-32. The CRC-32 is in the last four bytes, after the length.
fn is_sound_snapshot(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    let bytes = fs::read(path)?;
    let Some((rest, &crc)) = bytes.split_last_chunk() else { return Ok(false) };
    let Some((content, _length)) = rest.split_last_chunk::<8>() else { return Ok(false) };
    Ok(!content.is_empty() && crc32fast::hash(content) == u32::from_le_bytes(crc))
}

/// True if sled would misread the configuration. A missing or empty configuration is not damaged: sled writes it again.
fn is_config_damaged(folder: &Path) -> io::Result<bool> {
    let bytes = match fs::read(folder.join("conf")) {
        Ok(bytes) if bytes.len() > MAX_EMPTY_CONFIG_BYTES => bytes,
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some((content, &crc)) = bytes.split_last_chunk() else { return Ok(false) };
    Ok(crc32fast::hash(content) != u32::from_le_bytes(crc))
}

/// The maximum number of bytes of a configuration that sled treats as empty.
const MAX_EMPTY_CONFIG_BYTES: usize = 8;

/// True if the log is complete and of a store of this crate. The log of a store that is open elsewhere counts as
/// complete, because the caller then tries to lock the log and finds that it is locked.
fn is_log_whole(folder: &Path) -> bool {
    match verify(folder) {
        Ok(found) => found.is_whole,
        Err(error) => error.kind() == ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(content: &[u8]) -> Vec<u8> {
        let mut bytes = content.to_vec();
        bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_damaged_snapshot_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("db"), "").unwrap();
        let sound = "snap.0000000000000010";
        fs::write(at(sound), snapshot(b"pages")).unwrap();
        assert_eq!(set_aside(folder.path()).unwrap(), DerivedFiles::Sound);
        for (name, content) in [
            ("snap.0000000000000020", Vec::new()),
            ("snap.0000000000000020", snapshot(b"")),
            ("snap.0000000000000020", snapshot(b"pages")[..16].to_vec()),
            ("snap.0000000000000020.generating", Vec::new()),
            ("snap.0000000000000020.generating", snapshot(b"pages")),
            ("snap.other", snapshot(b"pages")),
        ] {
            fs::write(at(name), &content).unwrap();
            assert_eq!(set_aside(folder.path()).unwrap(), DerivedFiles::SetAside, "{name}");
            assert!(!at(name).exists() && at(sound).exists(), "{name}");
            assert_eq!(fs::read(at(SNAPSHOT_ASIDE)).unwrap(), content, "{name}");
        }
    }

    #[test]
    fn no_file_is_set_aside_while_another_store_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("db")).unwrap();
        log.lock().unwrap();
        let half = folder.path().join("snap.0000000000000010.generating");
        fs::write(&half, "").unwrap();
        assert_eq!(set_aside(folder.path()).unwrap(), DerivedFiles::Locked);
        assert!(half.exists());
    }
}
