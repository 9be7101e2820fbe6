//! One Redis or Valkey server.

mod builder;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Process, client, program, run};
use crate::secret::{Secret, encoded};
use crate::tls::Tls;

pub use self::builder::RedisBuilder;

const SOCKET: &str = "redis.sock";

/// A private server. It keeps nothing over a restart, unless [`RedisBuilder::append_only`] was asked for.
///
/// Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
    tls: Option<(Arc<Tls>, Port)>,
    password: Option<Secret>,
    cli: PathBuf,
    folder: Folder,
}

impl Redis {
    /// Starts a server without a password.
    ///
    /// # Errors
    /// The program is missing or did not start; its log is shown.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server with more than the defaults.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// `redis://[:PASSWORD@]127.0.0.1:PORT`
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{}@", encoded(password))).unwrap_or_default();
        format!("redis://{login}{}", self.address())
    }

    /// The URL of a user that [`RedisBuilder::acl_user`] made.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{}:{}@{}", encoded(user), encoded(password), self.address())
    }

    /// `redis+unix:///FOLDER/redis.sock[?pass=PASSWORD]`
    pub fn unix_url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!("?pass={}", encoded(password))).unwrap_or_default();
        format!("redis+unix://{}{login}", self.socket().display())
    }

    /// `rediss://[:PASSWORD@]localhost:PORT`, to be verified with [`ca_certificate`](Self::ca_certificate).
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn tls_url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{}@", encoded(password))).unwrap_or_default();
        format!("rediss://{login}localhost:{}", self.tls().1.number())
    }

    /// The certificate of the authority that vouches for the server, a PEM file.
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn ca_certificate(&self) -> &Path {
        &self.tls().0.authority
    }

    /// Without TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Without TLS.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// With TLS, for a proxy in front of it.
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn tls_address(&self) -> SocketAddr {
        self.tls().1.address()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Its process, or the last it had.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it as a crash would, and waits for its end.
    ///
    /// # Errors
    /// It could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port and in the same folder; kills it first, where it runs.
    ///
    /// # Errors
    /// It did not start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.restart()?;
        self.ready()
    }

    /// Stops it without an end: it holds its connections and answers nothing.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()
    }

    /// Asks it by `redis-cli` through its socket and gives the printed answer.
    ///
    /// # Errors
    /// The answer is an error, or there was none for ten seconds.
    pub fn cli(&self, arguments: &[&str]) -> io::Result<String> {
        ask(&self.cli, &self.socket(), self.password.as_deref(), arguments)
    }

    /// Not killed, and not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    fn ready(&mut self) -> io::Result<()> {
        let (cli, socket, password) = (&self.cli, self.folder.path().join(SOCKET), self.password.as_deref());
        self.process.ready(|| ask(cli, &socket, password, &["PING"]).map(drop))
    }

    #[expect(clippy::expect_used, reason = "a test that asks for what it did not build is wrong")]
    fn tls(&self) -> &(Arc<Tls>, Port) {
        self.tls.as_ref().expect("the server was built with TLS")
    }
}

fn ask(cli: &Path, socket: &Path, password: Option<&str>, arguments: &[&str]) -> io::Result<String> {
    let mut command = client(cli);
    command.arg("-e").arg("-s").arg(socket).args(arguments);
    match password {
        Some(password) => command.env("REDISCLI_AUTH", password),
        None => command.env_remove("REDISCLI_AUTH"),
    };
    run(&mut command)
}

fn cli_program() -> io::Result<PathBuf> {
    program(&["redis-cli", "valkey-cli"])
}

fn server_program() -> io::Result<PathBuf> {
    program(&["redis-server", "valkey-server"])
}
