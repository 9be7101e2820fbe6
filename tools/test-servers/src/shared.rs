//! The folder that all test processes of one user share. It holds port locks and data templates.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

/// Returns the shared folder, and creates it if it does not exist.
///
/// # Errors
/// The path exists and is not a private folder of this user. The name can be guessed, so another user may have
/// created it.
pub(crate) fn shared_folder() -> io::Result<PathBuf> {
    let user = nix::unistd::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("kv-test-servers-{user}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is not a private folder of user {user}", path.display())));
    }
    Ok(path)
}
