//! The data folder that `initdb` makes once for each user of the machine. Each server gets a copy.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{DATA, NAME};
use crate::folder::Folder;
use crate::process::{Account, Launch, run};
use crate::secret::{self, Secret};
use crate::shared::shared_folder;

/// A part of the folder's name. Increment this part when a change of [`make`] needs a new template.
const VERSION: u32 = 1;

pub(super) struct Template {
    data: PathBuf,
    pub(super) password: Secret,
}

impl Template {
    /// Returns the template, and makes the template if it does not exist. A lock file lets concurrent processes wait
    /// for the process that makes the template.
    pub(super) fn get(programs: &Path, account: Option<Account>) -> io::Result<Self> {
        let version = run(Command::new(programs.join("postgres")).arg("--version"))?;
        let version = version.split(' ').nth(2).unwrap_or("unknown").to_owned();
        let shared = shared_folder()?;
        let lock = File::create(shared.join("postgres.lock"))?;
        lock.lock()?;
        let folder = shared.join(format!("postgres-{version}-{VERSION}"));
        if !folder.exists() {
            make(programs, account, &folder)?;
        }
        Ok(Self { data: folder.join(DATA), password: std::fs::read_to_string(folder.join("password"))?.into() })
    }

    /// Copies the data into a folder that is empty or does not exist.
    pub(super) fn copy_to(&self, data: &Path) -> io::Result<()> {
        let contents = self.data.join(".");
        run(Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(contents).arg(data)).map(drop)
    }
}

fn make(programs: &Path, account: Option<Account>, target: &Path) -> io::Result<()> {
    let folder = Folder::create(account)?;
    let data = folder.path().join(DATA);
    let password = secret::random()?;
    folder.write("password", &password)?;

    let launch = |program: &str, arguments: &[&str]| Launch {
        program: programs.join(program),
        arguments: arguments.iter().map(Into::into).collect(),
        account,
        folder: folder.path().to_owned(),
    };
    // WAL segments of 1 MB reduce the size of each copy to a third.
    let options = ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"];
    let mut initdb = launch("initdb", &["-D", DATA, "-U", NAME, "--pwfile=password"]);
    initdb.arguments.extend(options.iter().map(Into::into));
    run(&mut initdb.command())?;

    let mut single = launch("postgres", &["--single", "-D", DATA, "postgres"]).command();
    let mut child = single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "create database {NAME}")?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("postgres --single exited with {status}")));
    }

    // The rename is atomic, so that no process finds an incomplete template.
    let new = target.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    std::fs::create_dir(&new)?;
    run(Command::new("cp").arg("-a").arg(&data).arg(&new))?;
    std::fs::write(new.join("password"), password.as_bytes())?;
    std::fs::set_permissions(new.join("password"), Permissions::from_mode(0o600))?;
    std::fs::rename(&new, target)
}
