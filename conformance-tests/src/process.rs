//! Child processes of a test program: the same program, started again. A child opens stores by name and serves them.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kv_core::{Error, Kv, KvStore, Result};
use kv_lines::{LinesBuilder, LinesStore, Listener, ServeConfig, Token};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::folder;
use crate::fresh::Fresh;

/// The environment variable that makes a program a child. Its value is the name of the suite whose stores it opens.
const SUITE: &str = "CONFORMANCE_SERVES";
/// The environment variable with the address of the suite's backend, which is empty for a store without a backend.
const BACKEND: &str = "CONFORMANCE_BACKEND";

/// True if this program is a child of any suite.
pub(crate) fn is_child() -> bool {
    std::env::var_os(SUITE).is_some()
}

/// Returns the address of the backend if this program is a child that opens the stores of the suite `name`.
pub(crate) fn served_backend(name: &str) -> Option<String> {
    (std::env::var(SUITE).ok()? == name).then(|| std::env::var(BACKEND).unwrap_or_default())
}

/// A child process. The child ends when it is killed, when this value is dropped, or when this process ends.
pub(crate) struct ChildProcess {
    child: Mutex<Child>,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl ChildProcess {
    /// Starts this program again as a child of the suite `name`.
    pub(crate) fn start(name: &str, backend: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(SUITE, name).env(BACKEND, backend).env(folder::ROOT, folder::root());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                Ok(Self { child: Mutex::new(child), pipes: Mutex::new((stdin, BufReader::new(stdout))) })
            }
            _ => Err(io::Error::other("the child process has no standard streams")),
        }
    }

    /// Asks the child to open the store of this name. Returns the response of the child: the address at which the child
    /// serves the store, and the token, or an error text. Blocks until the response arrives.
    pub(crate) fn request(&self, name: &str) -> io::Result<String> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *pipes;
        writeln!(stdin, "{name}")?;
        stdin.flush()?;
        let mut response = String::new();
        stdout.read_line(&mut response)?;
        Ok(response)
    }

    /// Kills the child and waits until it has ended. A pending [`ChildProcess::request`] then returns.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Opens the store that a child serves, given the child's response.
pub(crate) async fn connect(response: &str) -> Result<LinesStore> {
    let unusable = || Error::unavailable(format!("the child process could not open the store: {response}"));
    let (address, token) = response.trim_end().split_once(' ').ok_or_else(unusable)?;
    let address = address.parse().map_err(|_| unusable())?;
    let token = token.parse().map_err(|_| unusable())?;
    // The store in the child has its own timeouts, so this timeout is long.
    LinesBuilder::new(address).token(token).operation_timeout(Duration::from_secs(120)).open().await
}

/// Reads names of stores from the standard input, and opens each store. Writes a line for each name: the address at
/// which the store is served, and the token, or the error. Ends the process at the end of the input.
///
/// # Panics
/// Panics if the standard streams or the runtime fail.
pub(crate) fn serve_all<F, S>(open: impl Fn(Fresh) -> F) -> !
where
    F: Future<Output = Result<S>>,
    S: KvStore,
{
    let serve = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        for name in io::stdin().lock().lines() {
            let response = match serve_one(&runtime, open(Fresh::named(name?))) {
                Ok(address_and_token) => address_and_token,
                Err(error) => error.to_string().replace('\n', " "),
            };
            let mut out = io::stdout().lock();
            writeln!(out, "{response}")?;
            out.flush()?;
        }
        Ok(())
    };
    serve().unwrap_or_else(|error| panic!("the child process cannot serve stores: {error}"));
    std::process::exit(0)
}

fn serve_one<S: KvStore>(runtime: &Runtime, opening: impl Future<Output = Result<S>>) -> Result<String> {
    let failed = |error: io::Error| Error::unavailable(error.to_string());
    runtime.block_on(async {
        let kv = Kv::new(opening.await?);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let token = Token::random();
        let listener = Listener::tcp(listener, token.clone()).map_err(failed)?;
        tokio::spawn(async move { kv_lines::serve(&kv, listener, &ServeConfig::default()).await });
        Ok(format!("{address} {}", token.reveal()))
    })
}
