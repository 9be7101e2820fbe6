#![doc = include_str!("../README.md")]
#![expect(clippy::disallowed_methods, reason = "measurements read the system clock")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed measurement panics")]
#![expect(clippy::cast_precision_loss, reason = "throughput needs no exact integers")]
#![expect(clippy::future_not_send, reason = "the measuring future stays on one thread; the measured tasks are spawned")]

mod allocations;
mod bar;
mod bars;
mod counters;
mod drivers;
mod embedded;
mod federation;
mod programs;
mod raw;
mod rounds;
mod scaling;
mod syncs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kv_cli::Progress;
use kv_cli::bench::{Dataset, Operation, Settings};

use crate::bars::BenchOptions;
use crate::rounds::Rounds;

/// Compares anykv's stores with raw drivers and other key-value layers, in interleaved rounds of one run.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

/// The arguments of all commands.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Milliseconds of each measurement, over all rounds; each command has its own default
    #[arg(long, global = true, value_name = "MILLISECONDS")]
    duration: Option<u64>,
    /// Number of measured rounds, after one warm-up round
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Load as many entries as in production, which takes long
    #[arg(long, global = true)]
    full: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the bars: the required and the measured value of each ratio
    Bars {
        /// Select the bars whose names contain one of these; default: all
        #[arg(value_parser = known_bar)]
        names: Vec<String>,
        /// Update the table of this file, between the lines `<!-- bars -->` and `<!-- /bars -->`
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        /// Succeed if each ratio is at most this many times worse than required, so that only a regression fails
        #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
        margin: f64,
    },
    /// Measure each operation on our stores and on the raw drivers
    Drivers {
        /// Some of stores (all of ours), memory, embedded, redis, postgres; default: all
        #[arg(value_parser = drivers::FAMILIES)]
        families: Vec<String>,
        /// Numbers of concurrent tasks of the throughput measurements
        #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
        tasks: Vec<usize>,
        /// Number of entries
        #[arg(long, default_value_t = 100_000)]
        entries: u64,
        /// Bytes of each value
        #[arg(long, default_value_t = 100)]
        value_bytes: usize,
        /// Write tables, JSON and plots into subfolders of this folder
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Measure the cost of each operation as a store grows
    Scaling {
        /// Some of memory, sqlite, sled, redis, postgres; default: all
        #[arg(value_parser = scaling::BACKENDS)]
        backends: Vec<String>,
        /// Numbers of entries
        #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
        entries: Vec<u64>,
        /// Write tables, JSON and plots into this folder
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Replay recorded traffic on our stores and on other layers over the same backends
    Federation {
        /// Some of memory, redis, postgres, sqlite, sled; default: all
        #[arg(value_parser = federation::BACKENDS)]
        backends: Vec<String>,
    },
    /// Compare the embedded stores: throughput, file size, time to reopen
    Embedded {
        /// Number of entries of 100 bytes
        #[arg(long, default_value_t = 1_000_000)]
        entries: u64,
    },
    /// Count allocations per call, and bytes per entry in memory
    Allocations,
    /// Write only: run under `strace`, which counts the system calls
    #[command(hide = true)]
    OnlyWrite { name: String, tasks: usize, folder: PathBuf },
}

fn known_bar(name: &str) -> Result<String, String> {
    let known = bars::NAMES.iter().any(|known| known.contains(name));
    if known { Ok(name.to_owned()) } else { Err(format!("the bars are {}", bars::NAMES.join(", "))) }
}

impl CommonArgs {
    fn settings(&self, default: Duration) -> Settings {
        let duration = self.duration.map_or(default, Duration::from_millis);
        Settings { rounds: self.rounds.into(), duration, ..Settings::default() }
    }

    fn options(&self, settings: Settings) -> BenchOptions {
        BenchOptions { settings, full: self.full, progress: Progress::stages() }
    }
}

fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let success = runtime.block_on(run(&common, command));
    runtime.shutdown_background();
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a command. Returns true if all measured bars are met.
async fn run(common: &CommonArgs, command: Command) -> bool {
    match command {
        Command::Bars { names, into, margin } => {
            let options = common.options(common.settings(Duration::from_millis(1_400)));
            return bars::run(&names, into.as_deref(), margin, &options).await;
        }
        Command::Drivers { families, tasks, entries, value_bytes, report } => {
            let dataset = Arc::new(Dataset::new(entries, value_bytes, 1).unwrap());
            let settings = Settings { tasks, ..common.settings(Duration::from_millis(700)) };
            let options = common.options(settings);
            drivers::run(&families, &dataset, &options, report.as_deref()).await;
        }
        Command::Scaling { backends, entries, report } => {
            let settings = common.settings(Duration::from_millis(700));
            // One task shows the cost of a call. `Mixed` inserts new keys, so it would make the small stores large.
            let operations = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Mixed).collect();
            let settings = Settings { tasks: vec![1], rates: Vec::new(), operations, ..settings };
            scaling::run(&backends, &entries, &common.options(settings), report.as_deref()).await;
        }
        Command::Federation { backends } => {
            // The time slice of a slow layer in each round.
            let settings = common.settings(Duration::from_secs(4));
            let bars = federation::run(&backends, &common.options(settings)).await;
            println!("{}", bar::table(&bars));
            return bars.iter().all(bar::Bar::is_met);
        }
        Command::Embedded { entries } => {
            let rounds = Rounds::of(&common.settings(Duration::from_millis(2_800)));
            println!("{}", embedded::run(entries, rounds).await);
        }
        Command::Allocations => println!("{}", allocations::table()),
        Command::OnlyWrite { name, tasks, folder } => syncs::only_write(&name, tasks, &folder).await,
    }
    true
}
