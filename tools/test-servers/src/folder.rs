//! Temporary folders of servers, and the removal of folders that killed processes have left behind.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use tempfile::TempDir;

use crate::postgres::{self, release_shared_memory};
use crate::process::{Account, run};

const PREFIX: &str = "kvs-";

/// The file that is locked while the folder is in use.
const LOCK: &str = "lock";

/// The maximum length of the parent's path, in bytes. The path of a Unix socket has at most 107 bytes, which include
/// the names of the folder and of the socket.
const MAX_PARENT_BYTES: usize = 60;

/// The folder of one server, removed on drop.
#[derive(Debug)]
pub(crate) struct Folder {
    mounted: Option<PathBuf>,
    account: Option<Account>,
    path: TempDir,
    _lock: File,
}

impl Folder {
    /// Creates a folder that belongs to `account`. If `account` is `None`, the folder belongs to the user of this
    /// process.
    pub(crate) fn create(account: Option<Account>) -> io::Result<Self> {
        static SWEEP: Once = Once::new();
        let parent = Some(std::env::temp_dir()).filter(|path| path.as_os_str().len() <= MAX_PARENT_BYTES);
        let parent = parent.unwrap_or_else(|| "/tmp".into());
        SWEEP.call_once(|| sweep(&parent));
        let path = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(parent)?;
        let lock = File::create(path.path().join(LOCK))?;
        lock.lock()?;
        if let Some(account) = account {
            account.take_ownership_of(path.path())?;
        }
        Ok(Self { mounted: None, account, path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.path()
    }

    /// Writes a file that only its owner can read. Servers refuse keys and user lists with wider permissions.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        File::options().write(true).create_new(true).mode(0o600).open(&path)?.write_all(text.as_bytes())?;
        self.account.map_or(Ok(()), |account| account.take_ownership_of(&path))?;
        Ok(path)
    }

    /// Mounts a tmpfs of `bytes` bytes on the subfolder `name`.
    pub(crate) fn mount(&mut self, name: &str, bytes: u64) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir(&path)?;
        let size = format!("size={bytes},mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path)).map_err(|error| {
            io::Error::new(error.kind(), format!("a small tmpfs needs the right to mount: {error}"))
        })?;
        self.mounted = Some(path.clone());
        if let Some(account) = self.account {
            account.take_ownership_of(&path)?;
        }
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.mounted {
            unmount(path);
        }
    }
}

/// Unmounts lazily, because the last process of a server may still be exiting.
fn unmount(path: &Path) {
    let _ = run(Command::new("umount").arg("--lazy").arg(path));
}

/// Removes the folders that killed processes have left behind.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) && is_unlocked(&entry.path()) {
            // The last processes of a killed server may still be exiting. The next start of a server tries again.
            if !release_shared_memory(&entry.path().join(postgres::DATA)) {
                continue;
            }
            for inner in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if device(&inner.path()) != device(&entry.path()) {
                    unmount(&inner.path());
                }
            }
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn device(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|found| found.dev())
}

/// True if no process uses the folder. A process in another namespace is invisible in `/proc`, but its lock is visible.
fn is_unlocked(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}
