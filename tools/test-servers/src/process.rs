//! A server's process: start in its folder, wait until it is ready, kill and reap.

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

use crate::children::{is_running_child, is_stopped};
use crate::wait;

const LOG: &str = "server.log";

/// The number of bytes from the end of the log that an error text contains.
const TAIL_BYTES: usize = 4_000;

/// The unprivileged user of a server that refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns the first user of `names` that exists, or `None` if this process is not root.
    ///
    /// # Errors
    /// This process is root and none of the users exists.
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

    /// Makes the account the owner of the path and the only user that may read it.
    pub(crate) fn take_ownership_of(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))?;
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// The command line, user and folder of a server.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) account: Option<Account>,
    pub(crate) folder: PathBuf,
}

impl Launch {
    /// Returns the command. `setpriv` makes the kernel kill the server when this process dies for any reason, and then
    /// executes the program.
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

/// The process of a server that runs or has exited.
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

    /// Kills the process if it runs, and starts it again with the same command.
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

    /// Waits until the process exits by itself.
    ///
    /// # Errors
    /// `TimedOut` if the process still runs after `limit`.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) -> io::Result<()> {
        wait::until(limit, || Ok(self.child.try_wait()?.map(drop).ok_or_else(|| "the process still runs".to_owned())))
    }

    pub(crate) fn is_running(&self) -> bool {
        is_running_child(self.pid())
    }

    /// Stops the process and waits until it has stopped, because signals are delivered asynchronously.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let pid = self.pid();
        wait::until(wait::TIMEOUT, || {
            Ok(if is_stopped(pid) { Ok(()) } else { Err("the process still runs".to_owned()) })
        })
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a signal to the server alone.
    ///
    /// # Errors
    /// The server has exited.
    pub(crate) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match self.child.try_wait()? {
            Some(_) => Err(io::Error::other("the server is not running")),
            None => send(self.pid(), signal),
        }
    }

    /// Calls `ask` until `ask` succeeds. Then the server answers.
    ///
    /// # Errors
    /// The server exited or did not answer in time. The text contains the end of the server's log.
    pub(crate) fn wait_until_ready(&mut self, mut ask: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let Self { launch, child } = self;
        wait::until(wait::TIMEOUT, || match child.try_wait()? {
            Some(status) => Err(io::Error::other(format!("exited with {status}"))),
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

/// Runs a command to its end and returns its standard output without trailing line feeds.
///
/// # Errors
/// The command did not start or failed. The text contains the output of the command.
pub(crate) fn run(command: &mut Command) -> io::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(printed);
    }
    Err(io::Error::other(format!("{name} exited with {}: {errors} {printed}", output.status)))
}

/// Returns the command of a client program. The program is killed if it still runs after ten seconds.
pub(crate) fn client(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "10"]).arg(program).stdin(Stdio::null());
    command
}

/// The environment variable with folders of programs that are used instead of the installed programs, for tests with
/// another server or another version. The folders are separated as in `PATH`.
const PREFERRED_FOLDERS: &str = "ANYKV_TEST_PROGRAMS";

/// Finds one of `names` in the preferred folders, or else the first of `names` in the path or in the folders in which
/// Debian installs servers.
pub(crate) fn program(names: &[&str]) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]).collect();
    let installed = || names.iter().find_map(|name| find_in(&folders, name));
    preferred_program(names).or_else(installed).ok_or_else(|| missing(names))
}

/// Finds one of `names` in the preferred folders.
pub(crate) fn preferred_program(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os(PREFERRED_FOLDERS)?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    names.iter().find_map(|name| find_in(&folders, name))
}

fn find_in(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

pub(crate) fn missing(names: &[&str]) -> io::Error {
    let text = format!("{} is not installed: run scripts/servers", names.join(" or "));
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(launch.folder.join(LOG))?;
    let mut command = launch.command();
    command.stdout(log.try_clone()?).stderr(log);
    spawn_from_permanent_thread(command)
}

/// Spawns from a thread that never ends. `--pdeathsig` acts when the parent *thread* ends, so a server that the thread
/// of a test spawned would die with that test.
fn spawn_from_permanent_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, Sender<io::Result<Child>>);
    static THREAD: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, response) in requests {
                let _ = response.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (response, child) = channel();
    thread.lock().send((command, response)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let start = bytes.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}
