//! The program `soak`: kills clients and servers of a store while they work, and judges every key afterwards.

mod args;
mod choose;
mod content;
mod damage;
mod error;
mod group;
mod judge;
mod kills;
mod log;
mod operation;
mod perform;
mod shared;
mod state;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod track;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use crate::args::{Cli, Command};

/// The exit code of a run that could not continue.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> error::Result<ExitCode> {
    match command {
        // The kernel kills a server when the thread that started it ends, so the rounds run on the main thread.
        Command::Kills(options) => Builder::new_current_thread().enable_all().build()?.block_on(kills::kills(options)),
        Command::Work(work) => {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(worker::work(work)).map(|()| ExitCode::SUCCESS)
        }
    }
}
