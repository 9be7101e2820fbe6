//! A store that a second process of this program serves.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anykv::lines::{LinesBuilder, LinesStore, Token};
use anykv::{Error, Result};

/// A second process that serves the store of a URL. The process starts at the first `open`, and ends when the last
/// clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct SecondProcess {
    url: String,
    server: Arc<Mutex<Option<Server>>>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    address: SocketAddr,
    token: Token,
}

impl SecondProcess {
    pub(crate) fn new(url: String) -> Self {
        Self { url, server: Arc::default() }
    }

    /// Opens a handle to the store of the second process.
    ///
    /// # Errors
    /// `Unavailable` if the process does not start.
    pub(crate) async fn open(&self) -> Result<LinesStore> {
        let process = self.clone();
        let failed = |error: &dyn std::fmt::Display| Error::unavailable(format!("the second process failed: {error}"));
        let address = tokio::task::spawn_blocking(move || process.address()).await.map_err(|error| failed(&error))?;
        let (address, token) = address.map_err(|error| failed(&error))?;
        // This timeout is longer than the timeouts of any store, so that an error comes from the store and not from the
        // connection.
        LinesBuilder::new(address).token(token).operation_timeout(Duration::from_secs(120)).open().await
    }

    fn address(&self) -> io::Result<(SocketAddr, Token)> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match &mut *server {
            Some(server) => server,
            none => none.insert(Server::start(&self.url)?),
        };
        Ok((server.address, server.token.clone()))
    }
}

impl Server {
    fn start(url: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--json-lines", "--listen", "127.0.0.1:0", "--until-eof"])
            // The URL is not an argument, because other users can read command lines, and a URL may contain a password.
            .env("KV_STORE", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // The address is at the end of the first line, and the token is at the end of the second line.
        let (mut listening, mut token) = (String::new(), String::new());
        if let Some(stderr) = child.stderr.take() {
            let mut stderr = BufReader::new(stderr);
            stderr.read_line(&mut listening)?;
            stderr.read_line(&mut token)?;
        }
        let address = listening.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let token = token.trim().rsplit(' ').next().and_then(|token| token.parse().ok());
        match (address, token) {
            (Some(address), Some(token)) => Ok(Self { child, address, token }),
            _ => Err(io::Error::other(listening.trim().to_owned())),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors are ignored, because the process also exits at the end of its stdin.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
