//! The permissions of a new store's files: only the owner can read them.
//!
//! sled creates its files with the default permissions of the process, so other users can usually read the files.
//! Therefore the folder of a new store gets permissions for its owner only, and other users cannot reach the files that
//! sled creates in the folder. A folder that existed before keeps its permissions. In this case the files get
//! permissions for their owner only, after sled has created the files and before the first write.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a folder that only its owner can enter. Missing parent folders get the default permissions.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    match builder.create(folder) {
        // Another caller or process has created the folder since the check.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        created => created,
    }
}

/// Creates a file that only its owner can read and write. Empties an existing file.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    options.open(path)
}

/// Removes other users' permissions on the files of a store that sled has opened. Changes nothing in an older store
/// whose log other users can read, because the owner may intend this.
#[cfg(unix)]
pub(crate) fn restrict(folder: &Path, is_new: bool) -> io::Result<()> {
    let log = folder.join("db");
    if is_new {
        restrict_to_owner(&log)?;
    }
    if is_accessible_to_others(&fs::metadata(log)?) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        restrict_to_owner(&entry?.path())?;
    }
    Ok(())
}

/// Does nothing, because this system has no Unix permissions.
#[cfg(not(unix))]
pub(crate) fn restrict(_folder: &Path, _is_new: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
const FOLDER_MODE: u32 = 0o700;
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;
/// The permission bits of all users except the owner.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

#[cfg(unix)]
fn is_accessible_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & OTHERS != 0
}

#[cfg(unix)]
fn restrict_to_owner(path: &Path) -> io::Result<()> {
    let done = fs::symlink_metadata(path).and_then(|metadata| {
        if metadata.is_symlink() || !is_accessible_to_others(&metadata) {
            return Ok(());
        }
        let mode = if metadata.is_dir() { FOLDER_MODE } else { FILE_MODE };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    });
    match done.as_ref().map_err(io::Error::kind) {
        // The file was a snapshot that sled has just replaced, or the file system has no Unix permissions.
        Err(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => Ok(()),
        _ => done,
    }
}
