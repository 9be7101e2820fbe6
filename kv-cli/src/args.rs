//! The command line, as types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anykv::{Key, NewExpiry, Version, When};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::{Dataset, Operation};

/// The store where neither `--store` nor `KV_STORE` names one: the embedded store to take when data matters.
const DEFAULT_STORE: &str = "sqlite:./kv-data/kv.db";

/// One command line for every key-value store.
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version,
    max_term_width = 110,
    after_help = "Keys are canonical text: segments joined by `#`, with `$HH` for every byte up to `$` inside a segment. \
                  The key `users#1` has two segments, and `''` is the key of one empty segment."
)]
pub(crate) struct Cli {
    /// The store; `kv schemes` lists what it can be
    #[arg(long, global = true, env = "KV_STORE", hide_env_values = true, default_value = DEFAULT_STORE, value_name = "URL")]
    pub(crate) store: String,

    /// How data is written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Text,
    /// One JSON value a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnStore(StoreCommand),
    /// Copy entries with their deadlines from store to store
    Copy(CopyArgs),
    /// Check the files of a store that nobody has open: everything is read and compared with its checksums
    Verify {
        /// Write every sound entry to a new file that `import` reads
        #[arg(long, value_name = "FILE")]
        salvage: Option<PathBuf>,
    },
    /// Run the conformance suite against stores, each case in a namespace of its own
    Conformance(ConformanceArgs),
    /// Measure stores beside one another, in turns, in a namespace that is cleared at the end
    Bench(BenchArgs),
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// List the schemes of store URLs
    Schemes,
}

/// The commands that work on the store of `--store`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Write the value of a key to stdout
    Get {
        /// The key
        key: Key,
    },
    /// Write an entry and tell its version
    Set(SetArgs),
    /// Delete an entry
    Delete {
        /// The key
        key: Key,
        /// Only if the entry has this version
        #[arg(long, value_name = "VERSION")]
        if_version: Option<Version>,
    },
    /// List keys and values in key order
    List(ListArgs),
    /// Tell or move the deadline of an entry
    Ttl(TtlArgs),
    /// Tell changes as they happen
    Watch(WatchArgs),
    /// Write the entries of an export to the store
    Import {
        /// The file, or `-` for stdin
        file: PathBuf,
    },
    /// Write entries to a file that `import` reads
    Export {
        /// Only keys under this one; everything unless said
        prefix: Option<Key>,
        /// The file; stdout unless said
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Replay a recorded workload and check every answer
    Replay(ReplayArgs),
    /// Answer requests, one JSON text a line
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The key
    pub(crate) key: Key,
    /// The value; `-` or nothing reads stdin, `@FILE` a file
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<String>,
    /// Take the value as it stands, also where it is `-` or starts with `@`
    #[arg(long, requires = "value")]
    pub(crate) literal: bool,
    /// How long the entry lives, such as `5m` or `1day 2h`; or `never`, or `keep` the old deadline
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<Ttl>,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(clippy::struct_field_names, reason = "they are the names of the options")]
pub(crate) struct Condition {
    /// Only if there is no entry
    #[arg(long)]
    if_absent: bool,
    /// Only if there is an entry
    #[arg(long)]
    if_present: bool,
    /// Only if the entry has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

impl From<Condition> for When {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition { if_absent: true, .. } => Self::Absent,
            Condition { if_present: true, .. } => Self::Present,
            Condition { if_version: Some(version), .. } => Self::Version(version),
            Condition { if_absent: false, if_present: false, if_version: None } => Self::Always,
        }
    }
}

/// What `--ttl` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    Never,
    Keep,
    After(Duration),
}

impl std::str::FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "keep" => Ok(Self::Keep),
            _ => duration(text).map(Self::After),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; a duration is such as `5m` or `1day 2h`"))
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only keys under this one; everything unless said
    pub(crate) prefix: Option<Key>,
    /// Keys only
    #[arg(long)]
    pub(crate) keys: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only keys behind this one, which need not exist
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<Key>,
    /// Only keys before this one, which need not exist
    #[arg(long, value_name = "KEY")]
    pub(crate) before: Option<Key>,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TtlArgs {
    /// The key
    pub(crate) key: Key,
    /// Let the entry live for this long from now on
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "never")]
    set: Option<Duration>,
    /// Let the entry live for ever
    #[arg(long)]
    never: bool,
}

impl TtlArgs {
    /// The deadline to give, where one was asked for.
    pub(crate) fn expiry(&self) -> Option<NewExpiry> {
        if self.never { Some(NewExpiry::Never) } else { self.set.map(NewExpiry::After) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only keys under this one; everything unless said
    pub(crate) prefix: Option<Key>,
    /// First tell every entry that is there
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Keys only
    #[arg(long)]
    pub(crate) keys: bool,
    /// End after so many events
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The store to read
    #[arg(value_name = "FROM")]
    pub(crate) source: String,
    /// The store to write
    #[arg(value_name = "TO")]
    pub(crate) target: String,
    /// Only keys under this one
    #[arg(long, value_name = "KEY")]
    pub(crate) prefix: Option<Key>,
    /// Go on behind this key, as an earlier copy told it
    #[arg(long, value_name = "KEY")]
    pub(crate) resume_after: Option<Key>,
}

#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// The stores; that of `--store` unless said
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Only cases that have this in their names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,
    /// The seed that a failure printed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u32>,
    /// Write one Markdown table of all the stores instead of a report for each
    #[arg(long)]
    pub(crate) matrix: bool,
    /// Tell each case as it ends; with `--format json` a line each, and no report behind them
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Play the same random scripts on all the stores, with what every one of them can do, and compare their answers
    #[arg(long, conflicts_with_all = ["filter", "matrix", "verbose"])]
    pub(crate) compare: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The stores; that of `--store` unless said
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// What is measured, with commas between; everything unless said
    #[arg(long, value_enum, value_name = "OPERATION", value_delimiter = ',', hide_possible_values = true)]
    pub(crate) operations: Vec<Operation>,
    /// How many tasks look for the highest rate side by side
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,256")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) tasks: Vec<u16>,
    /// Operations a second at which latencies are taken; 0 takes none
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) rate: Vec<u32>,
    /// How long each figure is measured, over all rounds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(crate) duration: Duration,
    /// How many rounds count; one more goes before them
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// How many entries there are; several numbers tell how costs grow
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=Dataset::MAX_ENTRIES))]
    pub(crate) entries: Vec<u64>,
    /// How long each value is
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) value_bytes: usize,
    /// What keys and values are made from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write report.json, report.md and plots into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recorded workload, plain or gzip
    pub(crate) file: PathBuf,
    /// How many clients at once; all operations of a key stay with one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) clients: u16,
    /// How often the workload is replayed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// First load a set of entries of production size
    #[arg(long)]
    pub(crate) prefill: bool,
    /// The share of that set that is loaded
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, requires = "prefill", value_parser = share)]
    pub(crate) prefill_scale: f64,
    /// What that set is made from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How fast operations are issued
    #[arg(long, value_enum, default_value_t = Speed::Max)]
    pub(crate) speed: Speed,
    /// Leave the entries in the store
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speed {
    /// Each client issues its next operation when the last one is answered
    Max,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 100.0 => Ok(share),
        _ => Err("a share is a number above 0 and up to 100".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Speak the protocol of kv-lines/PROTOCOL.md: one JSON request a line, one JSON response a line
    #[arg(long, required = true)]
    pub(crate) json_lines: bool,
    /// Listen on a loopback address such as `127.0.0.1:7070` instead of stdin and stdout; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// With `--listen`, end when stdin does, so that it does not outlive who started it
    #[arg(long, requires = "listen")]
    pub(crate) until_eof: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_to_live_is_a_duration_never_or_keep() {
        assert_eq!("1day 2h".parse(), Ok(Ttl::After(Duration::from_secs(93_600))));
        assert_eq!(("never".parse(), "keep".parse()), (Ok(Ttl::Never), Ok(Ttl::Keep)));
        assert!("5".parse::<Ttl>().is_err() && "-5m".parse::<Ttl>().is_err());
    }
}
