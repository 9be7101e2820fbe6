//! A server's process: started in its folder, asked until it is ready, killed and reaped.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use parking_lot::Mutex;

use crate::family::{is_own, is_stopped};
use crate::wait;

const LOG: &str = "server.log";

/// How much of a log an error shows.
const TAIL_BYTES: usize = 4_000;

/// Whom a server runs as that must not be root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The first of `names` that exists, when we are root; ourselves otherwise.
    pub(crate) fn unprivileged(names: &[&str]) -> io::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in names {
            if let Some(user) = User::from_name(name)? {
                return Ok(Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(io::Error::other(format!("a server that must not run as root needs one of the users {names:?}")))
    }

    /// Makes it the owner, and the only one who can read.
    pub(crate) fn give(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))?;
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) account: Option<Account>,
    pub(crate) folder: PathBuf,
}

impl Launch {
    /// `setpriv` becomes the program: the kernel is told to kill it when our process dies, however that happens.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(Account { uid, gid }) = self.account {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.env("LC_ALL", "C.UTF-8");
        command
    }
}

/// A running or stopped server.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Child,
}

impl Process {
    pub(crate) fn start(launch: Launch) -> io::Result<Self> {
        let child = spawn(&launch)?;
        Ok(Self { launch, child })
    }

    /// Starts it again as it was started before.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.child = spawn(&self.launch)?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Fails when it has not ended by itself within the time.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> io::Result<()> {
        wait::until(limit, || Ok(self.child.try_wait()?.map(drop).ok_or_else(|| "it runs".to_owned())))
    }

    pub(crate) fn is_running(&self) -> bool {
        is_own(self.pid())
    }

    /// Returns when it has stopped: a signal is on its way for a moment.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let pid = self.pid();
        wait::until(wait::START, || Ok(if is_stopped(pid) { Ok(()) } else { Err("it runs".to_owned()) }))
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// To the server alone, or nobody when it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match self.child.try_wait()? {
            Some(_) => Err(io::Error::other("the server does not run")),
            None => send(self.pid(), signal),
        }
    }

    /// Asks until the server answers; fails when it ends or takes too long, with the end of its log.
    pub(crate) fn ready(&mut self, mut ask: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let Self { launch, child } = self;
        wait::until(wait::START, || match child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("ended with {status}"))),
            None => Ok(ask().map_err(|error| error.to_string())),
        })
        .map_err(|error| {
            let (program, log) = (launch.program.display(), tail(&launch.folder.join(LOG)));
            io::Error::new(error.kind(), format!("{program} did not start: {error}; the end of its log:\n{log}"))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

pub(crate) fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Runs a command to its end and gives what it printed, without the last line feed.
pub(crate) fn run(command: &mut Command) -> io::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    let (printed, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(printed);
    }
    Err(io::Error::other(format!("{name} ended with {}: {complaint} {printed}", output.status)))
}

/// A client program that asks a server, and is given up when the server does not answer.
pub(crate) fn client(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "10"]).arg(program).stdin(Stdio::null());
    command
}

/// The first of `names` in the path, or in the folders where Debian puts servers.
pub(crate) fn program(names: &[&str]) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]).collect();
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    found.into_iter().find(|path| path.is_file()).ok_or_else(|| missing(names))
}

pub(crate) fn missing(names: &[&str]) -> io::Error {
    let text = format!("{} is not installed: run scripts/servers", names.join(" or "));
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(launch.folder.join(LOG))?;
    let mut command = launch.command();
    command.stdout(log.try_clone()?).stderr(log);
    spawn_from_lasting_thread(command)
}

/// The kernel takes the *thread* that started a process for its parent: a test's thread would take the server with it.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static THREAD: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = channel();
    thread.lock().send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let start = bytes.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}
