//! The second process of a test program: the same program once more, which opens stores when it is told and serves them.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kv_core::{Capabilities, Error, Kv, KvStore, Result};
use kv_lines::LinesBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::link::blocking;
use crate::suite::{Fresh, Suite};

/// Tells a program that it is the second process, and where the backend is.
const BACKEND: &str = "CONFORMANCE_BACKEND";

impl Suite {
    /// A store on a backend that processes share. `start` brings the backend up before the first case, and gives what keeps it up
    /// and its address; `open` opens the store of a case there. So the suite has second handles, in this process and in a
    /// second one, which is this program once more.
    ///
    /// In the second process it does not return: it serves stores until the first process ends. So nothing that should
    /// happen once stands before it in `main`, and `main` is a test program's own (`harness = false`).
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::{Fresh, Suite};
    /// # use kv_core::{Capabilities, Result};
    /// # fn start() -> (String, String) { Default::default() }
    /// # async fn connect(address: String, name: String) -> Result<kv_memory::MemoryStore> { unimplemented!() }
    /// # const CAPABILITIES: Capabilities = kv_memory::CAPABILITIES.with_shared();
    ///
    /// // The server that was started, which is stopped on drop, and its URL.
    /// let open = |url: String, fresh: Fresh| connect(url, fresh.name().to_owned());
    /// Suite::on_backend("mine", CAPABILITIES, start, open).main();
    /// ```
    ///
    /// # Panics
    /// Where the second process cannot serve.
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
            served.unwrap_or_else(|error| panic!("the second process cannot serve: {error}"));
            std::process::exit(0)
        }
        let backend = Arc::new(Backend { start: Mutex::new(Some(start)), started: OnceLock::new() });
        let process = Arc::new(Process::default());
        let (open, elsewhere) = (Arc::new(open), Arc::clone(&backend));
        let open_here = move |fresh| {
            let (open, backend) = (Arc::clone(&open), Arc::clone(&backend));
            async move {
                let address = blocking(move || Ok(backend.address())).await?;
                open(address, fresh).await
            }
        };
        let open_elsewhere = move |fresh: Fresh| {
            let (process, backend) = (Arc::clone(&process), Arc::clone(&elsewhere));
            async move {
                let answer = blocking(move || process.ask(&backend.address(), fresh.name())).await?;
                let unusable = |_| Error::unavailable(format!("the second process: {answer}"));
                let address = answer.trim_end().parse().map_err(unusable)?;
                // The store there has deadlines of its own.
                LinesBuilder::new(address).operation_timeout(Duration::from_secs(120)).open().await
            }
        };
        Self::new(name, capabilities, open_here).with_second_handle().with_second_process(open_elsewhere)
    }
}

/// What `start` brought up; started for the first store, so that listing the cases starts nothing.
struct Backend<B, S> {
    start: Mutex<Option<S>>,
    started: OnceLock<(B, String)>,
}

impl<B, S: FnOnce() -> (B, String)> Backend<B, S> {
    fn address(&self) -> String {
        // A start that panicked is not tried again: every case after it says so.
        let start = || self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = self.started.get_or_init(|| match start() {
            Some(start) => start(),
            None => panic!("the backend did not start"),
        });
        started.1.clone()
    }
}

/// The second process as the first one sees it; started when the first store is opened in it.
#[derive(Default)]
struct Process {
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    /// Where the store of this name is served, or why it is not.
    fn ask(&self, backend: &str, name: &str) -> io::Result<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { to, from, .. } = match &mut *running {
            Some(running) => running,
            none => none.insert(Running::start(backend)?),
        };
        writeln!(to, "{name}")?;
        to.flush()?;
        let mut answer = String::new();
        from.read_line(&mut answer)?;
        Ok(answer)
    }
}

impl Running {
    fn start(backend: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(BACKEND, backend).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Self { child, to, from: BufReader::new(from) }),
            _ => Err(io::Error::other("it has no streams")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It also ends by itself, with its input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a store for each name that comes in, and answers with the address at which it is served, or with what went wrong.
fn serve_all<F, S>(open: impl Fn(Fresh) -> F) -> io::Result<()>
where
    F: Future<Output = Result<S>>,
    S: KvStore,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for name in io::stdin().lock().lines() {
        let answer = match serve_one(&runtime, open(Fresh::named(name?))) {
            Ok(address) => address,
            Err(error) => error.to_string().replace('\n', " "),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
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
        tokio::spawn(async move { kv_lines::serve(&kv, listener).await });
        Ok(address.to_string())
    })
}
