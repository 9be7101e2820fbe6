//! The command line arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Kill the clients or the server of a store while they work, and judge every key afterwards
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Kill in rounds, and exit with 1 if anything acknowledged is lost or wrong
    Kills(Kills),
    /// Work on a store until killed; `kills` starts this command
    #[command(hide = true)]
    Work(Work),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Kills {
    /// `sqlite`, `sled`, `redis`, `redis-cluster` or `postgres` for a store of its own, or the URL of a store
    pub(crate) store: String,

    /// Number of rounds, with one kill each
    #[arg(long, default_value_t = 200)]
    pub(crate) rounds: u64,

    /// Seed of the calls and of the moments of the kills; random by default
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// The process to kill
    #[arg(long, value_enum, default_value_t = Target::Client)]
    pub(crate) target: Target,

    /// Damage the store in round 3, so that the judgement must fail
    #[arg(long, value_enum, hide = true)]
    pub(crate) damage: Option<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// The process that uses the store
    Client,
    /// The server, which is started again
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Damage {
    /// Remove an acknowledged entry
    Lost,
    /// Undo a part of a transaction
    Torn,
    /// Repeat an increment
    Doubled,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Work {
    #[arg(long, env = "SOAK_URL", hide_env_values = true)]
    pub(crate) url: String,
    #[arg(long)]
    pub(crate) namespace: String,
    #[arg(long)]
    pub(crate) log: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) round: u64,
}
