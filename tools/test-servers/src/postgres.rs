//! A private PostgreSQL server.

mod builder;
mod shared_memory;
mod template;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::children::Children;
use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Process, client, missing, preferred_program, run, send};
use crate::secret::{Secret, encoded};
use crate::tls::Tls;
use crate::wait;

pub use self::builder::PostgresBuilder;
pub(crate) use self::shared_memory::release_shared_memory;

/// The name of the superuser and of the initial database.
pub(crate) const NAME: &str = "kv";

/// The name of the data folder inside the server's folder.
pub(crate) const DATA: &str = "data";

/// The timeout of an immediate shutdown (`SIGQUIT`).
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A private server with UTF-8 databases in the locale `C.UTF-8`, at most 200 connections, and a superuser `kv` with a
/// password (SCRAM).
///
/// Dropping the value stops the server and removes its folder.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: Port,
    tls: Option<Tls>,
    password: Secret,
    programs: PathBuf,
    folder: Folder,
}

impl Postgres {
    /// Starts a server with `fsync` off.
    ///
    /// # Errors
    /// The program is missing or did not start. The error contains the end of its log.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder for a server with other settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Returns `postgres://kv:PASSWORD@127.0.0.1:PORT/kv`.
    pub fn url(&self) -> String {
        self.url_to(NAME)
    }

    /// Returns the URL of another database of the server.
    pub fn url_to(&self, database: &str) -> String {
        self.url_of(NAME, &self.password, database)
    }

    /// Returns the URL of a database for another user.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let (user, password, database) = (encoded(user), encoded(password), encoded(database));
        format!("postgres://{user}:{password}@{}/{database}", self.address())
    }

    /// Returns `postgres://kv:PASSWORD@FOLDER:PORT/kv`. The host is the percent-encoded folder of the Unix socket.
    pub fn socket_url(&self) -> String {
        let (password, folder) = (encoded(&self.password), encoded(&self.folder.path().to_string_lossy()));
        format!("postgres://{NAME}:{password}@{folder}:{}/{NAME}", self.port())
    }

    /// Returns the password of the superuser.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Returns the folder of the Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the port, which serves connections with and without TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the address, which serves connections with and without TLS.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the id of the postmaster, even after it was killed.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the PEM file of the authority that signed the server's certificate.
    ///
    /// # Panics
    /// The server was not built with [`PostgresBuilder::tls`].
    #[expect(clippy::expect_used, reason = "a call without TLS is an error of the test")]
    pub fn ca_certificate(&self) -> &Path {
        &self.tls.as_ref().expect("the server was built with TLS").authority
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// The database already exists.
    pub fn create_database(&self, name: &str) -> io::Result<String> {
        self.psql(NAME, &format!("create database \"{}\" template template0", name.replace('"', "\"\"")))?;
        Ok(self.url_to(name))
    }

    /// Runs SQL as the superuser with `psql` over the Unix socket. Returns the rows without a header, one on each line,
    /// with `|` between fields.
    ///
    /// # Errors
    /// The server returned an error, or did not answer within ten seconds.
    pub fn psql(&self, database: &str, sql: &str) -> io::Result<String> {
        ask(&self.programs, self.folder.path(), self.port(), &self.password, database, sql)
    }

    /// Kills all processes of the server at once, as a crash would. Acknowledged writes survive in the page cache of
    /// the operating system.
    ///
    /// # Errors
    /// A process could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        // A paused postmaster starts no process between the listing and the kill.
        if self.process.pause().is_err() {
            return Ok(());
        }
        let children = Children::of(self.pid())?;
        self.process.kill()?;
        children.send(Signal::SIGKILL);
        wait::until(wait::TIMEOUT, || {
            Ok(if children.all_exited() { Ok(()) } else { Err("a child process has not exited".to_owned()) })
        })
    }

    /// Starts the server again on the same port with the same data. If the server is running, it is killed first.
    ///
    /// # Errors
    /// The server did not start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// Pauses all processes with `SIGSTOP`: the server keeps its connections and answers nothing.
    ///
    /// # Errors
    /// The server is not running.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()?;
        let children = Children::of(self.pid())?;
        children.send(Signal::SIGSTOP);
        wait::until(wait::TIMEOUT, || {
            Ok(if children.all_stopped() { Ok(()) } else { Err("a child process still runs".to_owned()) })
        })
    }

    /// Resumes a paused server.
    ///
    /// # Errors
    /// The server is not running.
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()?;
        Children::of(self.pid())?.send(Signal::SIGCONT);
        Ok(())
    }

    /// Kills one server process by its `pg_backend_pid()`. The server then closes all connections and recovers.
    ///
    /// # Errors
    /// The process does not belong to this server.
    pub fn kill_backend(&self, pid: u32) -> io::Result<()> {
        if !Children::of(self.pid())?.contains(pid) {
            return Err(io::Error::other(format!("process {pid} does not belong to this server")));
        }
        send(pid, Signal::SIGKILL)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let (programs, folder, port, password) =
            (&self.programs, self.folder.path(), self.port.number(), &self.password);
        self.process.wait_until_ready(|| ask(programs, folder, port, password, NAME, "select 1").map(drop))
    }

    /// Shuts the server down at once. Unlike a kill, the shutdown frees the server's System V shared memory.
    fn stop(&mut self) -> io::Result<()> {
        self.resume()?;
        self.process.signal(Signal::SIGQUIT)?;
        self.process.wait_for_exit(STOP_TIMEOUT)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.stop().is_err() {
            let _ = self.kill();
            release_shared_memory(&self.folder.path().join(DATA));
        }
    }
}

fn ask(programs: &Path, folder: &Path, port: u16, password: &str, database: &str, sql: &str) -> io::Result<String> {
    let mut command = client(&programs.join("psql"));
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", NAME, "-d", database, "-c", sql]);
    command.arg("-h").arg(folder).arg("-p").arg(port.to_string()).env("PGPASSWORD", password);
    run(&mut command)
}

/// Finds the preferred folder, or else the folder of the newest version. Debian installs each version in its own folder
/// outside of the path.
fn find_programs() -> io::Result<PathBuf> {
    if let Some(folder) = preferred_program(&["postgres"]).and_then(|path| path.parent().map(Path::to_owned)) {
        return Ok(folder);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|entry| entry.path().join("bin")).filter(|path| path.join("postgres").is_file());
    let newest = versions.max_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder| folder.join("postgres").is_file());
    newest.or(in_path).ok_or_else(|| missing(&["postgres"]))
}
