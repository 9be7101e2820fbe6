//! Runs the program: parses the command line, dispatches the command and returns the exit code.

use std::process::ExitCode;

use anykv::Kv;
use clap::Parser;

use crate::args::{Cli, Command, StoreCommand};
use crate::command::{
    bench, completions, conformance, copy, delete, export, get, import, list, replay, schemes, serve, set, ttl, verify,
    watch,
};
use crate::exit::{self, Answer, Failure};
use crate::output::{self, Output};

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::stdout(cli.format);
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli, &mut output));
            // A pending read of stdin cannot be cancelled. Dropping the runtime would wait for this read.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::io("starting the runtime")(error)),
    };
    let result = result.and_then(|answer| output.flush().map(|()| answer));
    match &result {
        Ok(_) | Err(Failure::OutputClosed) => {}
        Err(failure) => output::message(&failure.to_string()),
    }
    exit::code(&result)
}

async fn run(cli: Cli, output: &mut Output) -> Result<Answer, Failure> {
    let Cli { store, format: _, command } = cli;
    match command {
        Command::OnStore(command) => {
            let kv = if command.only_reads() {
                anykv::registry().open_existing(&store).await?
            } else {
                anykv::registry().open(&store).await?
            };
            let result = on_store(&kv, command, output).await;
            let closed = kv.store().close().await;
            let answer = result?;
            closed?;
            Ok(answer)
        }
        Command::Verify { salvage } => verify::run(&store, salvage, output).await,
        Command::Copy(args) => copy::run(args, output).await,
        Command::Conformance(args) => conformance::run(store, args, output).await,
        Command::Bench(args) => bench::run(store, args, output).await,
        Command::Completions { shell } => completions::run(shell, output),
        Command::Schemes => schemes::run(output),
    }
}

async fn on_store(kv: &Kv, command: StoreCommand, output: &mut Output) -> Result<Answer, Failure> {
    match command {
        StoreCommand::Get { key } => get::run(kv, &key, output).await,
        StoreCommand::Set(args) => set::run(kv, args, output).await,
        StoreCommand::Delete { key, if_version } => delete::run(kv, &key, if_version, output).await,
        StoreCommand::List(args) => list::run(kv, args, output).await,
        StoreCommand::Ttl(args) => ttl::run(kv, &args, output).await,
        StoreCommand::Watch(args) => watch::run(kv, args, output).await,
        StoreCommand::Import { file } => import::run(kv, &file, output).await,
        StoreCommand::Export { prefix, out } => export::run(kv, prefix, out, output).await,
        StoreCommand::Replay(args) => replay::run(kv, args, output).await,
        StoreCommand::Serve(args) => serve::run(kv, &args).await,
    }
}
