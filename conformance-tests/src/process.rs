//! The second process of a test program: the same program once more, which opens stores when it is told and serves them.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kv_core::{Capabilities, Error, Kv, KvStore, Result};
use kv_lines::{LinesBuilder, LinesStore};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::suite::{Fresh, Suite};

/// Tells a program that it is the second process, and where the backend is.
const BACKEND: &str = "CONFORMANCE_BACKEND";

impl Suite {
    /// A store on a backend that processes share. `start` brings the backend up, and gives what keeps it up and its address;
    /// `open` opens the store of a case there. Second handles are then opened by two `open` in one process, and in a second
    /// process as well, which is this program once more.
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
        start: impl FnOnce() -> (B, String),
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
        let (backend, address) = start();
        let process = Arc::new(Process { address: address.clone(), running: OnceLock::new() });
        let open = move |fresh| {
            // It stays up as long as stores are opened.
            let _ = &backend;
            open(address.clone(), fresh)
        };
        let elsewhere = move |fresh: Fresh| {
            let process = Arc::clone(&process);
            async move { process.open(fresh).await }
        };
        Self::new(name, capabilities, open).with_second_handle().with_second_process(elsewhere)
    }
}

/// The second process as the first one sees it; started when the first store is opened in it.
struct Process {
    address: String,
    running: OnceLock<Mutex<io::Result<Running>>>,
}

struct Running {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    async fn open(self: Arc<Self>, fresh: Fresh) -> Result<LinesStore> {
        let asked = tokio::task::spawn_blocking(move || self.ask(fresh.name())).await;
        let answer = asked.map_err(|error| Error::unavailable(error.to_string()))?;
        let answer = answer.map_err(|error| Error::unavailable(format!("the second process: {error}")))?;
        let address = answer.trim_end().parse();
        let address = address.map_err(|_| Error::unavailable(format!("the second process: {answer}")))?;
        // The store there has its own deadlines.
        LinesBuilder::new(address).operation_timeout(Duration::from_secs(120)).open().await
    }

    fn ask(&self, name: &str) -> io::Result<String> {
        let mut running =
            self.running.get_or_init(|| Mutex::new(self.start())).lock().unwrap_or_else(PoisonError::into_inner);
        let Running { to, from, .. } =
            running.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        writeln!(to, "{name}")?;
        to.flush()?;
        let mut answer = String::new();
        from.read_line(&mut answer)?;
        Ok(answer)
    }

    fn start(&self) -> io::Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(BACKEND, &self.address).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Running { child, to, from: BufReader::new(from) }),
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
