//! Folders for the stores of a test program that never returns, and so cannot remove them behind itself.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kv_core::{Clock, SystemClock};

/// Where stores are made. What an earlier run has left is removed once.
pub(crate) fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| clean(Path::new(env!("CARGO_TARGET_TMPDIR")))).clone()
}

/// Tests may run as many processes at once, so what is young stays.
fn clean(root: &Path) -> PathBuf {
    let folder = root.join("kv-sled");
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemClock.now().duration_since(modified).ok());
        if age.is_some_and(|age| age > Duration::from_secs(300)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    folder
}
