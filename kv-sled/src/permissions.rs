//! Permissions of a new store's files: only their owner can read them.
//!
//! sled creates its files with the permissions that the process gives to every file, which usually lets everybody read
//! them. The folder of a new store is closed to others, so nobody reaches the files that sled creates later. In a folder
//! that exists already, the files are closed one by one after opening, before the first write.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a folder that only its owner can enter. Parents that are missing get the usual permissions.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    match builder.create(folder) {
        // Another opener was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        created => created,
    }
}

/// Creates or empties a file that only its owner can read and write.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    options.open(path)
}

/// Closes the files of a store to others, after sled has opened it. Changes nothing in an older store whose log others
/// may read, because its owner may want that.
#[cfg(unix)]
pub(crate) fn restrict(folder: &Path, is_new: bool) -> io::Result<()> {
    let log = folder.join("db");
    if is_new {
        close_to_others(&log)?;
    }
    if is_open_to_others(&fs::metadata(log)?) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        close_to_others(&entry?.path())?;
    }
    Ok(())
}

/// Permissions are not set on this system.
#[cfg(not(unix))]
pub(crate) fn restrict(_folder: &Path, _is_new: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
const FOLDER_MODE: u32 = 0o700;
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;
#[cfg(unix)]
const OTHERS: u32 = 0o077;

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & OTHERS != 0
}

#[cfg(unix)]
fn close_to_others(path: &Path) -> io::Result<()> {
    let done = fs::symlink_metadata(path).and_then(|metadata| {
        if metadata.is_symlink() || !is_open_to_others(&metadata) {
            return Ok(());
        }
        let mode = if metadata.is_dir() { FOLDER_MODE } else { FILE_MODE };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    });
    match done.as_ref().map_err(io::Error::kind) {
        // sled has just replaced a snapshot, or the file system has no permissions.
        Err(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => Ok(()),
        _ => done,
    }
}
