//! The folder for the stores of a test program. The program exits without running destructors, so it cannot remove the
//! folder at its end.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kv_core::{Clock, SystemClock};

/// Returns the folder for stores. The first call removes the stores of earlier runs.
pub(crate) fn folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| clean(Path::new(env!("CARGO_TARGET_TMPDIR")))).clone()
}

/// Removes the stores of earlier runs. Keeps recent folders, because they may belong to test processes that run at the
/// same time.
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
