#![doc = include_str!("../README.md")]
#![expect(clippy::disallowed_methods, reason = "what measures time reads the clock")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no figure, and nobody to tell but who runs it")]
#![expect(clippy::cast_precision_loss, reason = "a rate is not exact")]

mod embedded;
mod rounds;
mod table;
mod traffic;

use clap::{Parser, Subcommand};

/// Measures stores beside each other, in turns, in one run.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// The embedded stores: rates, space, reopening
    Embedded {
        /// How many entries of 100 bytes are there
        #[arg(long, default_value_t = 1_000_000)]
        entries: u64,
    },
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match Cli::parse().subject {
        Subject::Embedded { entries } => println!("{}", runtime.block_on(embedded::run(entries))),
    }
}
