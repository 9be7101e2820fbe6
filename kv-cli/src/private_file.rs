//! Files that only their owner can read, because the files hold the entries of a store.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file with mode 0600. An existing file is an error.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create_new(true))
}

/// Creates a file with mode 0600. Empties an existing file and gives it this mode.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))
}

#[cfg(unix)]
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    let file = options.mode(0o600).open(path)?;
    let found = file.metadata()?;
    // A pipe or a device keeps its mode.
    if found.is_file() && found.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.open(path)
}
