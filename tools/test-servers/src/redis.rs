//! A private Redis or Valkey server.

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

/// A private server. A restart loses the data unless [`RedisBuilder::append_only`] is set.
///
/// Dropping the value kills the server and removes its folder.
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
    /// The program is missing or did not start. The error contains the end of its log.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder for a server with other settings.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Returns `redis://[:PASSWORD@]127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{}@", encoded(password))).unwrap_or_default();
        format!("redis://{login}{}", self.address())
    }

    /// Returns the URL for a user that [`RedisBuilder::acl_user`] created.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{}:{}@{}", encoded(user), encoded(password), self.address())
    }

    /// Returns `redis+unix:///FOLDER/redis.sock[?pass=PASSWORD]`.
    pub fn unix_url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!("?pass={}", encoded(password))).unwrap_or_default();
        format!("redis+unix://{}{login}", self.socket().display())
    }

    /// Returns `rediss://[:PASSWORD@]localhost:PORT`. [`ca_certificate`](Self::ca_certificate) verifies the server.
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn tls_url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{}@", encoded(password))).unwrap_or_default();
        format!("rediss://{login}localhost:{}", self.tls().1.number())
    }

    /// Returns the PEM file of the authority that signed the server's certificate.
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn ca_certificate(&self) -> &Path {
        &self.tls().0.authority
    }

    /// Returns the port for connections without TLS.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the address for connections without TLS.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the address for connections with TLS, such as the target of a proxy.
    ///
    /// # Panics
    /// The server was not built with [`RedisBuilder::tls`].
    pub fn tls_address(&self) -> SocketAddr {
        self.tls().1.address()
    }

    /// Returns the path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Returns the id of the server's process, even after it was killed.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the server as a crash would, and waits until the process has exited.
    ///
    /// # Errors
    /// The process could not be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts the server again on the same port and in the same folder. If the server is running, it is killed first.
    ///
    /// # Errors
    /// The server did not start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// Pauses the process with `SIGSTOP`: the server keeps its connections and answers nothing.
    ///
    /// # Errors
    /// The server is not running.
    pub fn pause(&mut self) -> io::Result<()> {
        self.process.pause()
    }

    /// Resumes a paused server.
    ///
    /// # Errors
    /// The server is not running.
    pub fn resume(&mut self) -> io::Result<()> {
        self.process.resume()
    }

    /// Runs a command with `redis-cli` over the Unix socket and returns the printed response.
    ///
    /// # Errors
    /// The response is an error, or the server did not answer within ten seconds.
    pub fn cli(&self, arguments: &[&str]) -> io::Result<String> {
        ask(&self.cli, &self.socket(), self.password.as_deref(), arguments)
    }

    /// True if the process has not exited.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let (cli, socket, password) = (&self.cli, self.folder.path().join(SOCKET), self.password.as_deref());
        self.process.wait_until_ready(|| ask(cli, &socket, password, &["PING"]).map(drop))
    }

    #[expect(clippy::expect_used, reason = "a call without TLS is an error of the test")]
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
