//! The rounds. A round starts a worker, kills the worker or the server at a random moment, and judges the store. The
//! next round continues with the same store.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anykv::{Clock, Kv, SystemClock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::args::{Kills, Target};
use crate::damage;
use crate::error::Result;
use crate::judge::{Counts, Model, Outage};
use crate::log::{now_micros, read};
use crate::store::{self, Moment};
use crate::target::Store;
use crate::track::{Fault, Violation};
use crate::worker::log_path;

/// The number of rounds after which a new store begins.
const ROUNDS_PER_STORE: u64 = 20;

/// The round in which `--damage` takes effect.
const DAMAGED_ROUND: u64 = 3;

/// The range of the time between the first call of the worker and the kill, in milliseconds.
const KILL_MILLIS: Range<u64> = 3..400;

/// The share of rounds in which the time before the kill begins with the start of the process, so that some kills hit a
/// worker that is opening the store.
const OPENING_SHARE: f64 = 0.1;

/// The longest time until a worker makes its first call.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time that calls of a worker may run after the server was killed. This time is longer than the timeouts
/// of all stores.
const END_TIMEOUT: Duration = Duration::from_secs(25);

/// The time in which an open handle sees that its connections broke.
const NOTICE: Duration = Duration::from_millis(50);

/// The maximum number of violations of a round that are printed.
const MAX_PRINTED: usize = 3;

#[derive(Debug, Default)]
struct Totals {
    kills: u64,
    counts: Counts,
    lost: usize,
    wrong: usize,
}

/// A store, everything that is known about it, and the handle that stays open while its server is killed.
struct Subject {
    store: Store,
    namespace: String,
    model: Model,
    handle: Option<Kv>,
}

/// Runs all rounds and prints the sums. Exits with 1 if anything is lost or wrong.
pub(crate) async fn kills(options: Kills) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let target = match options.target {
        Target::Client => "client",
        Target::Server => "server",
    };
    eprintln!("{} {target}: {} rounds with the seed {seed}", options.store, options.rounds);
    let logs = TempDir::with_prefix("soak-")?;
    let (mut totals, mut subject) = (Totals::default(), None);
    for round in 1..=options.rounds {
        let mut current = match subject.take() {
            Some(current) => current,
            None => Subject::start(&options, format!("soak-{seed}-{round}")).await?,
        };
        let violations = current.round(&options, seed, round, &logs, &mut totals).await?;
        for violation in violations.iter().take(MAX_PRINTED) {
            println!("seed {seed}, round {round}: {violation}");
        }
        let lost = violations.iter().filter(|violation| violation.fault == Fault::Lost).count();
        totals.lost += lost;
        totals.wrong += violations.len() - lost;
        // After a violation the state is unknown.
        if !violations.is_empty() {
            continue;
        }
        if round % ROUNDS_PER_STORE == 0 || round == options.rounds {
            current.end().await?;
            eprintln!("{} {target}: {round} rounds, {} lost, {} wrong", options.store, totals.lost, totals.wrong);
        } else {
            subject = Some(current);
        }
    }
    let Totals { kills, counts: Counts { acknowledged, unanswered }, lost, wrong } = totals;
    println!(
        "{} {target}: {} rounds, {kills} kills, {acknowledged} operations acknowledged, {unanswered} unanswered, \
         {lost} lost, {wrong} wrong",
        options.store, options.rounds
    );
    Ok(if lost + wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Subject {
    async fn start(options: &Kills, namespace: String) -> Result<Self> {
        let store = Store::start(&options.store)?;
        let kv = store::open(&store.url, &namespace).await?;
        store::check(&kv, options.target)?;
        let model = Model::new(&store.url);
        let handle = match options.target {
            Target::Server => Some(kv),
            Target::Client => {
                kv.close().await?;
                None
            }
        };
        Ok(Self { store, namespace, model, handle })
    }

    async fn round(
        &mut self,
        options: &Kills,
        seed: u64,
        round: u64,
        logs: &TempDir,
        totals: &mut Totals,
    ) -> Result<Vec<Violation>> {
        let log = log_path(logs.path(), round);
        let mut rng = StdRng::seed_from_u64(seed ^ round);
        let mut child = self.spawn(seed, round, &log)?;
        let (is_opening, delay) = (rng.random_bool(OPENING_SHARE), rng.random_range(KILL_MILLIS));
        if !is_opening {
            wait_for_first_call(&mut child, &log).await?;
        }
        SystemClock.sleep(Duration::from_millis(delay)).await;
        let mut violations = Vec::new();
        let outage = match options.target {
            Target::Client => {
                if let Some(status) = child.try_wait()? {
                    violations.push(problem(format!("the worker ended before it was killed: {status}")));
                }
                child.kill().await?;
                self.store.settle().await?;
                Outage { from: None }
            }
            Target::Server => {
                let from = now_micros();
                self.store.kill_server()?;
                if tokio::time::timeout(END_TIMEOUT, child.wait()).await.is_err() {
                    violations.push(problem("a call of the worker did not end after the server was killed".into()));
                    child.kill().await?;
                }
                self.store.restart_server()?;
                // The restart blocked this thread, so the open handle has not seen yet that its connections broke.
                SystemClock.sleep(NOTICE).await;
                Outage { from: Some(from) }
            }
        };
        totals.kills += 1;
        violations.extend(store::verify(&self.store.url, Moment::Killed).await.map(problem));
        let (counts, faults) = self.model.replay(round, read(&log)?, outage);
        std::fs::remove_file(&log).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        totals.counts.acknowledged += counts.acknowledged;
        totals.counts.unanswered += counts.unanswered;
        violations.extend(faults);
        violations.extend(self.judge(options, round).await?);
        Ok(violations)
    }

    /// Starts this program again as a worker. The URL is not an argument, because a URL may contain a password.
    fn spawn(&self, seed: u64, round: u64, log: &Path) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg("--namespace").arg(&self.namespace).arg("--log").arg(log);
        command.args(["--seed", &seed.to_string(), "--round", &round.to_string()]).env("SOAK_URL", &self.store.url);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?)
    }

    async fn judge(&mut self, options: &Kills, round: u64) -> Result<Vec<Violation>> {
        let start = now_micros();
        let kv = match &self.handle {
            Some(kv) => kv.clone(),
            None => match store::open(&self.store.url, &self.namespace).await {
                Ok(kv) => kv,
                Err(error) => return Ok(vec![problem(format!("the store does not open: {error}"))]),
            },
        };
        if self.handle.is_none() {
            self.model.opened(now_micros().saturating_sub(start));
        }
        if let Some(damage) = options.damage.filter(|_| round == DAMAGED_ROUND) {
            damage::damage(&kv, &self.model, damage).await?;
        }
        let mut violations = match self.model.judge(&kv).await {
            Ok(violations) => violations,
            Err(error) => vec![problem(format!("the store cannot be read: {error}"))],
        };
        if self.handle.is_none() {
            kv.close().await?;
            drop(kv);
            violations.extend(store::verify(&self.store.url, Moment::Closed).await.map(problem));
        }
        Ok(violations)
    }

    /// Removes everything that the tasks wrote.
    async fn end(self) -> Result<()> {
        let kv = match self.handle {
            Some(kv) => kv,
            None => store::open(&self.store.url, &self.namespace).await?,
        };
        kv.clear(Vec::<&str>::new()).await?;
        if let Some(key) = kv.keys(Vec::<&str>::new()).next().await.transpose()? {
            return Err(format!("clear left the key {}", key.as_str()).into());
        }
        Ok(kv.close().await?)
    }
}

/// Waits until the log has a line or the worker has ended.
async fn wait_for_first_call(child: &mut Child, log: &Path) -> Result<()> {
    let end = SystemClock.now() + START_TIMEOUT;
    while std::fs::metadata(log).map_or(0, |log| log.len()) == 0 && child.try_wait()?.is_none() {
        if SystemClock.now() > end {
            return Err("the worker made no call".into());
        }
        SystemClock.sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// A violation that belongs to no key.
fn problem(problem: String) -> Violation {
    Violation { fault: Fault::Wrong, key: "none".to_owned(), problem, history: Vec::new() }
}
