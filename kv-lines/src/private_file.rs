//! Files that only their owner can read and write, because they hold secrets or the entries of a store.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file of mode 0600.
///
/// # Errors
/// `AlreadyExists` if the file exists, and the errors of the file system.
pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
    open(path.as_ref(), OpenOptions::new().write(true).create_new(true))
}

/// Creates a file of mode 0600. An existing file is emptied and gets this mode.
///
/// # Errors
/// The errors of the file system.
pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
    open(path.as_ref(), OpenOptions::new().write(true).create(true).truncate(true))
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

/// Checks that other users can neither read nor change a file. The group of the file may read the file, so that two
/// users can share it.
///
/// # Errors
/// `PermissionDenied` with the mode of the file.
#[cfg(unix)]
pub(crate) fn check(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let found = file.metadata()?;
    let mode = found.permissions().mode() & 0o777;
    if found.is_file() && mode & 0o027 != 0 {
        let message = format!("the file has mode {mode:o}, so other users can read or change it: use mode 600");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn check(_: &File) -> io::Result<()> {
    Ok(())
}
