//! The folders of cases, for stores in files.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The environment variable with the root folder, which a program passes to the processes that it starts.
pub(crate) const ROOT: &str = "CONFORMANCE_FOLDER";

/// The folder that holds the folders of all cases of this run.
pub(crate) fn root() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os(ROOT) {
        Some(root) => root.into(),
        None => std::env::temp_dir().join(format!("conformance-{}-{:08x}", std::process::id(), rand::random::<u32>())),
    })
}

/// Removes the folder of a case, and the root folder if no other case has a folder in it.
pub(crate) fn remove(folder: &Path) {
    // Fails if the case used no folder, or if another case still has one.
    let _ = std::fs::remove_dir_all(folder);
    let _ = std::fs::remove_dir(root());
}
