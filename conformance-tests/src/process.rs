//! The second process of a test program: the same program, started again. It opens stores on request and serves them.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kv_core::{Capabilities, Error, Kv, KvStore, Result};
use kv_lines::{LinesBuilder, Listener, ServeConfig, Token};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::link::blocking;
use crate::suite::{Fresh, Suite};

/// The environment variable that makes a program the second process. Its value is the address of the backend.
const BACKEND: &str = "CONFORMANCE_BACKEND";

impl Suite {
    /// A suite for a store on a backend that processes share. `start` starts the backend before the first case and
    /// returns a guard that keeps it running, and its address. `open` opens the store of a case there. The suite has
    /// second handles in this process and in a second one, which is this program started again.
    ///
    /// In the second process, this function does not return: it serves stores until the first process ends. So call it
    /// in the `main` of a test program (`harness = false`), before anything that must happen only once.
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::{Fresh, Suite};
    /// # use kv_core::{Capabilities, Result};
    /// # fn start() -> (String, String) { Default::default() }
    /// # async fn connect(address: String, name: String) -> Result<kv_memory::MemoryStore> { unimplemented!() }
    /// # const CAPABILITIES: Capabilities = kv_memory::CAPABILITIES.with_shared();
    ///
    /// // The guard stops the server on drop; the string is its URL.
    /// let open = |url: String, fresh: Fresh| connect(url, fresh.name().to_owned());
    /// Suite::on_backend("mine", CAPABILITIES, start, open).main();
    /// ```
    ///
    /// # Panics
    /// Panics if the second process cannot serve.
    pub fn on_backend<B, F, S>(
        name: impl Into<String>,
        capabilities: Capabilities,
        start: impl FnOnce() -> (B, String) + Send + Sync + 'static,
        open: impl Fn(String, Fresh) -> F + Send + Sync + 'static,
    ) -> Self
    where
        B: Send + Sync + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        if let Ok(address) = std::env::var(BACKEND) {
            let served = serve_all(|fresh| open(address.clone(), fresh));
            served.unwrap_or_else(|error| panic!("the second process cannot serve stores: {error}"));
            std::process::exit(0)
        }
        let backend = Arc::new(Backend { start: Mutex::new(Some(start)), started: OnceLock::new() });
        let process = Arc::new(Process::default());
        let (open, same_backend) = (Arc::new(open), Arc::clone(&backend));
        let open_here = move |fresh| {
            let (open, backend) = (Arc::clone(&open), Arc::clone(&backend));
            async move {
                let address = blocking(move || Ok(backend.address())).await?;
                open(address, fresh).await
            }
        };
        let open_in_second = move |fresh: Fresh| {
            let (process, backend) = (Arc::clone(&process), Arc::clone(&same_backend));
            async move {
                let response = blocking(move || process.request(&backend.address(), fresh.name())).await?;
                let unusable =
                    |()| Error::unavailable(format!("the second process could not open the store: {response}"));
                let (address, token) = response.trim_end().split_once(' ').ok_or_else(|| unusable(()))?;
                let address = address.parse().map_err(|_| unusable(()))?;
                let token = token.parse().map_err(|_| unusable(()))?;
                // The store in the second process has its own timeouts, so this timeout is long.
                LinesBuilder::new(address).token(token).operation_timeout(Duration::from_secs(120)).open().await
            }
        };
        Self::new(name, capabilities, open_here).with_second_handle().with_second_process(open_in_second)
    }
}

/// The backend. It starts when the first store is opened, so that listing the cases starts no backend.
struct Backend<B, S> {
    start: Mutex<Option<S>>,
    started: OnceLock<(B, String)>,
}

impl<B, S: FnOnce() -> (B, String)> Backend<B, S> {
    fn address(&self) -> String {
        // `start` can be called only once. If it panicked, every later case panics here.
        let start = || self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = self.started.get_or_init(|| match start() {
            Some(start) => start(),
            None => panic!("the backend did not start for an earlier case"),
        });
        started.1.clone()
    }
}

/// The second process, as the first process sees it. It starts when the first store is opened in it.
#[derive(Default)]
struct Process {
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Asks the second process to open the store of this name. Returns its response: the address at which it serves the
    /// store, and the token, or an error text.
    fn request(&self, backend: &str, name: &str) -> io::Result<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { stdin, stdout, .. } = match &mut *running {
            Some(running) => running,
            none => none.insert(Running::start(backend)?),
        };
        writeln!(stdin, "{name}")?;
        stdin.flush()?;
        let mut response = String::new();
        stdout.read_line(&mut response)?;
        Ok(response)
    }
}

impl Running {
    fn start(backend: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(BACKEND, backend).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self { child, stdin, stdout: BufReader::new(stdout) }),
            _ => Err(io::Error::other("the second process has no standard streams")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process also ends by itself when its input closes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a store for each name on the standard input. Writes for each a line with the address that serves the store and
/// the token, or with the error.
fn serve_all<F, S>(open: impl Fn(Fresh) -> F) -> io::Result<()>
where
    F: Future<Output = Result<S>>,
    S: KvStore,
{
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
