//! A data folder that is made once for a user of the machine, and copied for each server.

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

/// Part of the folder's name: to be raised when what is made here changes.
const RECIPE: u32 = 1;

pub(super) struct Template {
    data: PathBuf,
    pub(super) password: Secret,
}

impl Template {
    /// Makes it where it is not there yet; processes that come at once wait for the first.
    pub(super) fn get(programs: &Path, account: Option<Account>) -> io::Result<Self> {
        let version = run(Command::new(programs.join("postgres")).arg("--version"))?;
        let version = version.split(' ').nth(2).unwrap_or("unknown").to_owned();
        let shared = shared_folder()?;
        let lock = File::create(shared.join("postgres.lock"))?;
        lock.lock()?;
        let folder = shared.join(format!("postgres-{version}-{RECIPE}"));
        if !folder.exists() {
            make(programs, account, &folder)?;
        }
        Ok(Self { data: folder.join(DATA), password: std::fs::read_to_string(folder.join("password"))?.into() })
    }

    /// Into a folder that is empty or not there.
    pub(super) fn copy_to(&self, data: &Path) -> io::Result<()> {
        let all = self.data.join(".");
        run(Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(all).arg(data)).map(drop)
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
    // Small segments of the log: a copy is a third of the size then.
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
        return Err(io::Error::other(format!("postgres --single ended with {status}")));
    }

    // A copy beside its final place, and only then its name: half of one is never found under it.
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
