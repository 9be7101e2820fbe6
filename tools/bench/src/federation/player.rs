//! Who plays: a store of this process, or a program that is told when.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use player::{Order, Peer, Played, Prefilled, Trace, play, prefill};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// One side of a comparison.
pub(super) enum Player {
    Own(Arc<dyn Peer>, Arc<Trace>),
    Program(Box<Program>),
    /// It could not be had, or has failed.
    Absent,
}

impl Player {
    pub(super) async fn prefill(&mut self, share: f64) -> Result<Prefilled, String> {
        match self {
            Self::Own(peer, _) => {
                let start = Instant::now();
                let entries = prefill(peer, share).await;
                Ok(Prefilled { entries, seconds: start.elapsed().as_secs_f64() })
            }
            Self::Program(program) => program.order(Order::Prefill(share)).await,
            Self::Absent => Err("it is not there".to_owned()),
        }
    }

    /// Plays for so long at most.
    pub(super) async fn play(&mut self, at_most: Duration) -> Result<Played, String> {
        match self {
            Self::Own(peer, trace) => Ok(play(peer, trace, at_most).await),
            Self::Program(program) => program.order(Order::Play(at_most.as_secs_f64())).await,
            Self::Absent => Err("it is not there".to_owned()),
        }
    }
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(..) => "Own",
            Self::Program(_) => "Program",
            Self::Absent => "Absent",
        })
    }
}

/// A program that has not answered after this time never will: openkeyv's store on sled stands still in a flush now and then.
const PATIENCE: Duration = Duration::from_mins(5);

/// A program that takes orders; see the crate `player`.
pub(super) struct Program {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// What it says when it fails.
    complaints: tempfile::NamedTempFile,
}

impl Program {
    /// Starts it with these arguments.
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let complaints = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.stderr(complaints.reopen().unwrap());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Ok(Self { child, orders, answers: BufReader::new(answers).lines(), complaints })
    }

    async fn order<T: serde::de::DeserializeOwned>(&mut self, order: Order) -> Result<T, String> {
        let line = serde_json::to_string(&order).unwrap() + "\n";
        if self.orders.write_all(line.as_bytes()).await.is_err() {
            return Err(self.complaint().await);
        }
        match timeout(PATIENCE, self.answers.next_line()).await {
            Ok(Ok(Some(answer))) => serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}")),
            Ok(_) => Err(self.complaint().await),
            Err(_) => {
                let _ = self.child.start_kill();
                Err(format!("no answer for {} s", PATIENCE.as_secs()))
            }
        }
    }

    /// Why it ended: the line of what it said that looks like a reason.
    async fn complaint(&mut self) -> String {
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let said = std::fs::read_to_string(self.complaints.path()).unwrap_or_default();
        let reason = said.lines().find(|line| line.contains("rror") || line.contains("panicked"));
        format!("{status}: {}", reason.or(said.lines().last()).unwrap_or("it said nothing"))
    }
}
