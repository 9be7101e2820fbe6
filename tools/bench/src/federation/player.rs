//! A player of the recorded traffic: a store in this process, or a separate program.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use player::{Peer, Played, Prefilled, Request, Trace, play, prefill};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// One side of a comparison.
pub(super) enum Player {
    /// A store in this process.
    Local(Arc<dyn Peer>, Arc<Trace>),
    /// A separate program.
    Program(Box<Program>),
    /// A player that did not start or has failed.
    Unavailable,
}

impl Player {
    pub(super) async fn prefill(&mut self, share: f64) -> Result<Prefilled, String> {
        match self {
            Self::Local(peer, _) => {
                let start = Instant::now();
                let entries = prefill(peer, share).await;
                Ok(Prefilled { entries, seconds: start.elapsed().as_secs_f64() })
            }
            Self::Program(program) => program.request(Request::Prefill(share)).await,
            Self::Unavailable => Err("the player is unavailable".to_owned()),
        }
    }

    /// Plays the traffic for at most `limit`.
    pub(super) async fn play(&mut self, limit: Duration) -> Result<Played, String> {
        match self {
            Self::Local(peer, trace) => Ok(play(peer, trace, limit).await),
            Self::Program(program) => program.request(Request::Play(limit.as_secs_f64())).await,
            Self::Unavailable => Err("the player is unavailable".to_owned()),
        }
    }
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(..) => "Local",
            Self::Program(_) => "Program",
            Self::Unavailable => "Unavailable",
        })
    }
}

/// The timeout of an answer from a program. openkeyv's store on sled sometimes hangs in a flush.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// A program that serves requests on standard input, as the crate `player` describes.
pub(super) struct Program {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// The standard error of the program.
    stderr: tempfile::NamedTempFile,
}

impl Program {
    /// Starts a program with these arguments.
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(stderr.reopen().unwrap());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (requests, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Self { child, requests, answers: BufReader::new(answers).lines(), stderr })
    }

    async fn request<T: serde::de::DeserializeOwned>(&mut self, request: Request) -> Result<T, String> {
        let line = serde_json::to_string(&request).unwrap() + "\n";
        if self.requests.write_all(line.as_bytes()).await.is_err() {
            return Err(self.failure().await);
        }
        match timeout(ANSWER_TIMEOUT, self.answers.next_line()).await {
            Ok(Ok(Some(answer))) => serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}")),
            Ok(_) => Err(self.failure().await),
            Err(_) => {
                let _ = self.child.start_kill();
                Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
            }
        }
    }

    /// Waits for the exit of the program. Returns its status and the first line of its standard error that looks like
    /// an error.
    async fn failure(&mut self) -> String {
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let output = std::fs::read_to_string(self.stderr.path()).unwrap_or_default();
        let reason = output.lines().find(|line| line.contains("rror") || line.contains("panicked"));
        format!("{status}: {}", reason.or(output.lines().last()).unwrap_or("no output"))
    }
}
