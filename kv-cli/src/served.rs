//! A store that this program serves in a second process of its own.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anykv::lines::{LinesBuilder, LinesStore};
use anykv::{Error, Result};

/// Serves the store of a URL from when it is first asked for. Clones are the same; the process ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    url: String,
    serving: Arc<Mutex<Option<Serving>>>,
}

#[derive(Debug)]
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Served {
    pub(crate) fn new(url: String) -> Self {
        Self { url, serving: Arc::default() }
    }

    /// A handle on the store in the other process.
    ///
    /// # Errors
    /// `Unavailable` where that does not start.
    pub(crate) async fn open(&self) -> Result<LinesStore> {
        let served = self.clone();
        let failed = |error: &dyn std::fmt::Display| Error::unavailable(format!("the second process: {error}"));
        let address = tokio::task::spawn_blocking(move || served.address()).await.map_err(|error| failed(&error))?;
        let address = address.map_err(|error| failed(&error))?;
        // The store there has deadlines of its own.
        LinesBuilder::new(address).operation_timeout(Duration::from_secs(120)).open().await
    }

    fn address(&self) -> io::Result<SocketAddr> {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        match &*serving {
            Some(serving) => Ok(serving.address),
            None => Ok(serving.insert(Serving::start(&self.url)?).address),
        }
    }
}

impl Serving {
    fn start(url: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--json-lines", "--listen", "127.0.0.1:0", "--until-eof"])
            // Not as an argument, which other users can read.
            .env("KV_STORE", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(stderr) = child.stderr.take() {
            BufReader::new(stderr).read_line(&mut said)?;
        }
        let address = said.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let serving = |address| Self { child, address };
        address.map(serving).ok_or_else(|| io::Error::other(said.trim().to_owned()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It also ends by itself, with its input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
