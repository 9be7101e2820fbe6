//! The cases of a full disk. Each store has a database of its own, whose tables are on a small file system.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use conformance_tests::{Fresh, Suite};
use kv_core::{Capabilities, Durability, Error, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;

/// The server of all stores. The kernel kills it at the end of this process.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// The number of the next disk.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The server runs without `fsync`, so the store declares a lower durability.
const DECLARED: Capabilities = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));

/// A small file system and the URL of a database whose tables are on it. The log of the server is elsewhere: a server
/// whose log finds no room stops, as if it had been killed.
struct Disk {
    /// The name of the database and of the tablespace.
    name: String,
    url: String,
    folder: tempfile::TempDir,
}

impl Disk {
    fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = &*SERVER;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"]).arg(folder.path()))?;
        let name = format!("full_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut disk = Self { name: name.clone(), url: String::new(), folder };
        // The server's user must own the folder of a tablespace.
        let owner = format!("--reference={}", server.socket_folder().join("data").display());
        run(Command::new("chown").arg(owner).arg(disk.path()))?;
        server.psql("kv", &format!("CREATE TABLESPACE {name} LOCATION '{}'", disk.path().display()))?;
        disk.url = server.create_database(&name)?;
        server.psql("kv", &format!("ALTER DATABASE {name} SET default_tablespace = {name}"))?;
        Ok(disk)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Writes a file until the file system has no room.
    fn fill(&mut self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        while file.write_all(&[0; 4_096]).is_ok() {}
        Ok(())
    }

    fn free(&mut self) -> io::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A checkpoint of the server fails if it has pages for files that are gone.
        let _ = self.free();
        let _ = SERVER.psql("kv", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let _ = SERVER.psql("kv", &format!("DROP TABLESPACE IF EXISTS {}", self.name));
        let _ = run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    let error = || io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
    output.status.success().then_some(()).ok_or_else(error)
}

fn full() -> Suite {
    if let Err(error) = Disk::start() {
        eprintln!("NOT RUN: a small file system cannot be mounted: {error}");
        // Without the functions that fill a disk, the cases are skipped.
        let refuse = |_| async { Err::<PostgresStore, _>(Error::unavailable("no small file system")) };
        return Suite::new("postgres-full", DECLARED, refuse);
    }
    let open = |disk: &Disk, fresh: Fresh| {
        let url = disk.url.clone();
        async move { PostgresStore::builder().url(&url)?.table(fresh.name()).open().await }
    };
    Suite::on_disks("postgres-full", DECLARED, Disk::start, open, Disk::fill, Disk::free).with_reopen()
}

mod full_tablespace {
    use super::full;

    conformance_tests::full_disk! { full() }
}
