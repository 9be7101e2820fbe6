#![doc = include_str!("../README.md")]
#![expect(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that fails has no figure")]
#![expect(clippy::cast_precision_loss, reason = "a rate is not exact")]
#![expect(clippy::future_not_send, reason = "who measures stays on one thread; what is measured is spawned")]

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

use crate::bars::Measuring;
use crate::rounds::Rounds;

/// Measures anykv's stores beside raw drivers and other layers, in turns, in one run.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    what: What,
}

/// How everything is measured.
#[derive(Debug, Args)]
struct How {
    /// Milliseconds of each figure, over all rounds; each command has its own unless said
    #[arg(long, global = true, value_name = "MILLISECONDS")]
    duration: Option<u64>,
    /// How many rounds count; one more goes before them
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Numbers of entries as in production, which take long to load
    #[arg(long, global = true)]
    full: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The bars: what is required of each ratio, and what it is
    Bars {
        /// Those that have one of these in their names; all of them unless said
        #[arg(value_parser = known_bar)]
        names: Vec<String>,
        /// Put them into the table of this file, between the lines `<!-- bars -->` and `<!-- /bars -->`
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        /// Ends well where each bar is so many times as bad as required at most: a regression, whatever the machine does
        #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
        margin: f64,
    },
    /// Each operation on our stores and the raw drivers
    Drivers {
        /// Some of stores (all of ours), memory, embedded, redis, postgres; all of them unless said
        #[arg(value_parser = drivers::FAMILIES)]
        families: Vec<String>,
        /// How many tasks look for the highest rate
        #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
        tasks: Vec<usize>,
        /// How many entries there are
        #[arg(long, default_value_t = 100_000)]
        entries: u64,
        /// How long each value is
        #[arg(long, default_value_t = 100)]
        value_bytes: usize,
        /// Write tables and plots into folders of this one
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// The cost of each operation as a store grows
    Scaling {
        /// Some of memory, sqlite, sled, redis, postgres; all of them unless said
        #[arg(value_parser = scaling::BACKENDS)]
        backends: Vec<String>,
        /// The numbers of entries
        #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
        entries: Vec<u64>,
        /// Write tables and plots into this folder
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Recorded traffic on our stores and on other layers over the same backends
    Federation {
        /// Some of memory, redis, postgres, sqlite, sled; all of them unless said
        #[arg(value_parser = federation::BACKENDS)]
        backends: Vec<String>,
    },
    /// The embedded stores beside each other: rates, space, reopening
    Embedded {
        /// How many entries of 100 bytes are there
        #[arg(long, default_value_t = 1_000_000)]
        entries: u64,
    },
    /// Allocations of each call, and bytes of each entry in memory
    Allocations,
    /// Only writes: what counts the system's calls runs this
    #[command(hide = true)]
    OnlyWrite { name: String, tasks: usize, folder: PathBuf },
}

fn known_bar(name: &str) -> Result<String, String> {
    let known = bars::NAMES.iter().any(|known| known.contains(name));
    if known { Ok(name.to_owned()) } else { Err(format!("known are {}", bars::NAMES.join(", "))) }
}

impl How {
    fn settings(&self, usual: Duration) -> Settings {
        let duration = self.duration.map_or(usual, Duration::from_millis);
        Settings { rounds: self.rounds.into(), duration, ..Settings::default() }
    }

    fn measuring(&self, settings: Settings) -> Measuring {
        Measuring { settings, full: self.full, progress: Progress::stages() }
    }
}

fn main() -> ExitCode {
    let Cli { how, what } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let is_met = runtime.block_on(measure(&how, what));
    runtime.shutdown_background();
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every bar that was asked for is met.
async fn measure(how: &How, what: What) -> bool {
    match what {
        What::Bars { names, into, margin } => {
            let measuring = how.measuring(how.settings(Duration::from_millis(1_400)));
            return bars::run(&names, into.as_deref(), margin, &measuring).await;
        }
        What::Drivers { families, tasks, entries, value_bytes, report } => {
            let dataset = Arc::new(Dataset::new(entries, value_bytes, 1).unwrap());
            let settings = Settings { tasks, ..how.settings(Duration::from_millis(700)) };
            let measuring = how.measuring(settings);
            drivers::all(&families, &dataset, &measuring, report.as_deref()).await;
        }
        What::Scaling { backends, entries, report } => {
            let settings = how.settings(Duration::from_millis(700));
            // One task shows what a call costs; new keys would make the small stores large.
            let operations = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Mixed).collect();
            let settings = Settings { tasks: vec![1], rates: Vec::new(), operations, ..settings };
            scaling::all(&backends, &entries, &how.measuring(settings), report.as_deref()).await;
        }
        What::Federation { backends } => {
            // How long a slow layer plays in each of its turns.
            let settings = how.settings(Duration::from_secs(4));
            let bars = federation::run(&backends, &how.measuring(settings)).await;
            println!("{}", bar::table(&bars));
            return bars.iter().all(bar::Bar::is_met);
        }
        What::Embedded { entries } => {
            let rounds = Rounds::of(&how.settings(Duration::from_millis(2_800)));
            println!("{}", embedded::run(entries, rounds).await);
        }
        What::Allocations => println!("{}", allocations::table()),
        What::OnlyWrite { name, tasks, folder } => syncs::only_write(&name, tasks, &folder).await,
    }
    true
}
