//! One PostgreSQL server.

mod builder;
mod shared_memory;
mod template;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::family::Family;
use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Process, client, missing, run, send};
use crate::secret::{Secret, encoded};
use crate::tls::Tls;
use crate::wait;

pub use self::builder::PostgresBuilder;
pub(crate) use self::shared_memory::forget;

/// The superuser, and the database that is there from the start.
pub(crate) const NAME: &str = "kv";

/// The data, in the server's folder.
pub(crate) const DATA: &str = "data";

/// How long a server that is told to stop at once may take.
const STOP: Duration = Duration::from_secs(5);

/// A private server with UTF-8 databases in the locale `C.UTF-8`, 200 connections and a superuser `kv` with a password (scram).
///
/// Dropping it stops it and removes its folder.
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
    /// Starts a server that does not wait for the disk.
    ///
    /// # Errors
    /// The program is missing or did not start; its log is shown.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server with more than the defaults.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// `postgres://kv:PASSWORD@127.0.0.1:PORT/kv`
    pub fn url(&self) -> String {
        self.url_to(NAME)
    }

    /// The URL of another database of the server.
    pub fn url_to(&self, database: &str) -> String {
        self.url_of(NAME, &self.password, database)
    }

    /// The URL of a database for another user.
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let (user, password, database) = (encoded(user), encoded(password), encoded(database));
        format!("postgres://{user}:{password}@{}/{database}", self.address())
    }

    /// `postgres://kv:PASSWORD@FOLDER:PORT/kv`, with the folder of its socket percent-encoded in the place of the host.
    pub fn socket_url(&self) -> String {
        let (password, folder) = (encoded(&self.password), encoded(&self.folder.path().to_string_lossy()));
        format!("postgres://{NAME}:{password}@{folder}:{}/{NAME}", self.port())
    }

    /// The superuser's.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Where its socket is.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// With and without TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// With and without TLS.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its first process, or the last it had.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The certificate of the authority that vouches for the server as `localhost` and `127.0.0.1`, a PEM file.
    ///
    /// # Panics
    /// The server was not built with [`PostgresBuilder::tls`].
    #[expect(clippy::expect_used, reason = "a test that asks for what it did not build is wrong")]
    pub fn ca_certificate(&self) -> &Path {
        &self.tls.as_ref().expect("the server was built with TLS").authority
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    /// It is there already.
    pub fn create_database(&self, name: &str) -> io::Result<String> {
        self.psql(NAME, &format!("create database \"{}\" template template0", name.replace('"', "\"\"")))?;
        Ok(self.url_to(name))
    }

    /// Runs SQL as the superuser through the socket, by `psql`, and gives the rows without a header: fields between `|`, lines.
    ///
    /// # Errors
    /// The server's, or there was no answer for ten seconds.
    pub fn psql(&self, database: &str, sql: &str) -> io::Result<String> {
        ask(&self.programs, self.folder.path(), self.port(), &self.password, database, sql)
    }

    /// Kills all its processes at once, as a crash of the machine would; what was acknowledged is in the system's cache.
    ///
    /// # Errors
    /// One could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        // It must not start processes while they are counted.
        if self.process.pause().is_err() {
            return Ok(());
        }
        let children = Family::of(self.pid())?;
        self.process.kill()?;
        children.send(Signal::SIGKILL);
        wait::until(wait::START, || Ok(if children.is_gone() { Ok(()) } else { Err("a process stays".to_owned()) }))
    }

    /// Starts it again on the same port with the same data; kills it first, where it runs.
    ///
    /// # Errors
    /// It did not start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.process.restart()?;
        self.ready()
    }

    /// Stops all its processes without an end: it holds its connections and answers nothing.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()?;
        let children = Family::of(self.pid())?;
        children.send(Signal::SIGSTOP);
        wait::until(wait::START, || Ok(if children.is_stopped() { Ok(()) } else { Err("a process runs".to_owned()) }))
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()?;
        Family::of(self.pid())?.send(Signal::SIGCONT);
        Ok(())
    }

    /// Kills one of its processes, as told by `pg_backend_pid()`: the server ends all connections and recovers.
    ///
    /// # Errors
    /// It is not one of its processes.
    pub fn kill_backend(&self, pid: u32) -> io::Result<()> {
        if !Family::of(self.pid())?.contains(pid) {
            return Err(io::Error::other(format!("process {pid} is not one of this server's")));
        }
        send(pid, Signal::SIGKILL)
    }

    fn ready(&mut self) -> io::Result<()> {
        let (programs, folder, port, password) =
            (&self.programs, self.folder.path(), self.port.number(), &self.password);
        self.process.ready(|| ask(programs, folder, port, password, NAME, "select 1").map(drop))
    }

    /// Lets it give back its shared memory, which a kill would leave to the machine.
    fn stop(&mut self) -> io::Result<()> {
        self.resume()?;
        self.process.signal(Signal::SIGQUIT)?;
        self.process.ended_within(STOP)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.stop().is_err() {
            let _ = self.kill();
            forget(&self.folder.path().join(DATA));
        }
    }
}

fn ask(programs: &Path, folder: &Path, port: u16, password: &str, database: &str, sql: &str) -> io::Result<String> {
    let mut command = client(&programs.join("psql"));
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", NAME, "-d", database, "-c", sql]);
    command.arg("-h").arg(folder).arg("-p").arg(port.to_string()).env("PGPASSWORD", password);
    run(&mut command)
}

/// Debian keeps the programs of each version in a folder of its own, and out of the path; the newest is taken.
fn find_programs() -> io::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|entry| entry.path().join("bin")).filter(|path| path.join("postgres").is_file());
    let newest = versions.max_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = std::env::split_paths(&path).find(|folder| folder.join("postgres").is_file());
    newest.or(elsewhere).ok_or_else(|| missing(&["postgres"]))
}
