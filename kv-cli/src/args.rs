//! The command line arguments.

use std::path::PathBuf;
use std::time::Duration;

use anykv::{Key, NewExpiry, Version, When};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::{Dataset, Operation};
use crate::listen::Listen;

/// The URL of the store if neither `--store` nor `KV_STORE` is set: the recommended embedded store.
const DEFAULT_STORE: &str = "sqlite:./kv-data/kv.db";

/// A command line for every anykv store
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version,
    max_term_width = 110,
    after_help = "A key is written as canonical text: its segments joined by `#`. Inside a segment each byte from 0x00 to \
                  `$` (0x24) is written as `$HH`. `users#1` has two segments; `''` is the key with one empty segment."
)]
pub(crate) struct Cli {
    /// URL of the store; `kv schemes` lists the schemes
    #[arg(long, global = true, env = "KV_STORE", hide_env_values = true, default_value = DEFAULT_STORE, value_name = "URL")]
    pub(crate) store: String,

    /// Format of the data on stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Readable text
    Text,
    /// One JSON value per line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnStore(StoreCommand),
    /// Copy entries and their deadlines from one store to another
    Copy(CopyArgs),
    /// Check the files of an embedded store that no process has open: read everything and compare the checksums
    Verify {
        /// Export every undamaged entry to this new file, which `import` reads
        #[arg(long, value_name = "FILE")]
        salvage: Option<PathBuf>,
    },
    /// Run the conformance suite against stores, each case in its own namespace
    Conformance(ConformanceArgs),
    /// Benchmark stores in interleaved rounds, in a temporary namespace
    Bench(BenchArgs),
    /// Write a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// List the schemes of store URLs
    Schemes,
}

/// The commands on the store of `--store`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Print the value of a key
    Get {
        /// The key
        key: Key,
    },
    /// Write an entry and print its version
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
    /// Print or change the time to live of an entry
    Ttl(TtlArgs),
    /// Print changes as they happen
    Watch(WatchArgs),
    /// Write the entries of an export file to the store
    Import {
        /// The export file, or `-` for stdin
        file: PathBuf,
    },
    /// Export entries to a file that `import` reads
    Export {
        /// Only keys under this prefix [default: all keys]
        prefix: Option<Key>,
        /// The export file [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Replay a recorded workload and check every result against a model
    Replay(ReplayArgs),
    /// Serve the store to other programs, as lines of JSON
    Serve(ServeArgs),
}

impl StoreCommand {
    /// True if the command must not create a missing store.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::List(_) | Self::Ttl(_) | Self::Watch(_) | Self::Export { .. })
    }
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The key
    pub(crate) key: Key,
    /// The value; `@FILE` reads a file, `-` or no value reads stdin
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<String>,
    /// Take the value literally, even `-` or a value that starts with `@`
    #[arg(long, requires = "value")]
    pub(crate) literal: bool,
    /// Time to live such as `5m` or `1day 2h`; `never` for no deadline, `keep` for the old deadline
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<Ttl>,
    #[command(flatten)]
    pub(crate) condition: Condition,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(clippy::struct_field_names, reason = "the fields are named after the options")]
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

/// The value of `--ttl`.
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
    humantime::parse_duration(text).map_err(|error| format!("{error}; examples of a duration: `5m`, `1day 2h`"))
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only keys under this prefix [default: all keys]
    pub(crate) prefix: Option<Key>,
    /// Print keys without values
    #[arg(long)]
    pub(crate) keys: bool,
    /// Maximum number of entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only keys after this key, which need not exist
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<Key>,
    /// Only keys before this key, which need not exist
    #[arg(long, value_name = "KEY")]
    pub(crate) before: Option<Key>,
    /// List in descending order
    #[arg(long)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TtlArgs {
    /// The key
    pub(crate) key: Key,
    /// Set the time to live, from now
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "never")]
    set: Option<Duration>,
    /// Remove the deadline
    #[arg(long)]
    never: bool,
}

impl TtlArgs {
    /// Returns the new expiry, if one is requested.
    pub(crate) fn expiry(&self) -> Option<NewExpiry> {
        if self.never { Some(NewExpiry::Never) } else { self.set.map(NewExpiry::After) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only keys under this prefix [default: all keys]
    pub(crate) prefix: Option<Key>,
    /// Print the existing entries first
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Print keys without values
    #[arg(long)]
    pub(crate) keys: bool,
    /// Exit after this number of events
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
    /// Only keys under this prefix
    #[arg(long, value_name = "KEY")]
    pub(crate) prefix: Option<Key>,
    /// Continue an earlier copy after this key, which the earlier copy printed
    #[arg(long, value_name = "KEY")]
    pub(crate) resume_after: Option<Key>,
}

#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// URLs of the stores [default: the store of `--store`]
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Only cases whose names contain this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,
    /// Seed of the random cases; the report of a failed case has its seed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u32>,
    /// Print one Markdown table of all stores instead of a report for each store
    #[arg(long)]
    pub(crate) matrix: bool,
    /// Print each case as it ends; with `--format json` one line per case and no report
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Run the same random scripts on all stores, limited to their common capabilities, and compare the results
    #[arg(long, conflicts_with_all = ["filter", "matrix", "verbose"])]
    pub(crate) compare: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// URLs of the stores [default: the store of `--store`]
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Comma-separated operations to measure [default: all]
    #[arg(long, value_enum, value_name = "OPERATION", value_delimiter = ',', hide_possible_values = true)]
    pub(crate) operations: Vec<Operation>,
    /// Numbers of concurrent tasks for the throughput measurement
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,256")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) tasks: Vec<u16>,
    /// Fixed rates for the latency measurement, in operations per second; 0 skips the measurement
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) rate: Vec<u32>,
    /// Total duration of each measurement, over all rounds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(crate) duration: Duration,
    /// Number of rounds, after one warm-up round
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Number of entries; several numbers show how costs grow with the size of the store
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=Dataset::MAX_ENTRIES))]
    pub(crate) entries: Vec<u64>,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) value_bytes: usize,
    /// Seed of the random key order and values
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write report.json, report.md and plots to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The recorded workload, plain or gzip
    pub(crate) file: PathBuf,
    /// Number of concurrent clients; all operations on a key run on the same client
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) clients: u16,
    /// Number of times to replay the workload
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// First load a data set of production size
    #[arg(long)]
    pub(crate) prefill: bool,
    /// Scale of the data set of `--prefill`
    #[arg(long, value_name = "SCALE", default_value_t = 1.0, requires = "prefill", value_parser = scale)]
    pub(crate) prefill_scale: f64,
    /// Seed of the data set of `--prefill`
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pace of the operations
    #[arg(long, value_enum, default_value_t = Speed::Max)]
    pub(crate) speed: Speed,
    /// Keep the entries in the store after the replay
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speed {
    /// Each client issues its next operation when the previous operation completes
    Max,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 100.0 => Ok(scale),
        _ => Err("the scale is a number above 0 and up to 100".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Use the protocol of kv-lines/PROTOCOL.md: one JSON request or response per line
    #[arg(long, required = true)]
    pub(crate) json_lines: bool,
    /// Listen on a loopback address such as `127.0.0.1:7070` (port 0 selects a free port) or on `unix:PATH`, instead of
    /// stdin and stdout
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Listen>,
    /// The file with the token that clients on TCP need; a missing file is created [default: print a random token]
    #[arg(long, requires = "listen", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Maximum number of sessions at once; further connections wait
    #[arg(long, requires = "listen", value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_connections: u16,
    /// End a session that has no streams and has been idle for this long [default: never]
    #[arg(long, requires = "listen", value_name = "DURATION", value_parser = duration)]
    pub(crate) idle_timeout: Option<Duration>,
    /// With `--listen`, exit at the end of stdin, so that the server does not outlive its parent process
    #[arg(long, requires = "listen")]
    pub(crate) until_eof: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_clap_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_to_live_is_a_duration_never_or_keep() {
        assert_eq!("1day 2h".parse(), Ok(Ttl::After(Duration::from_secs(93_600))));
        assert_eq!(("never".parse(), "keep".parse()), (Ok(Ttl::Never), Ok(Ttl::Keep)));
        assert!("5".parse::<Ttl>().is_err() && "-5m".parse::<Ttl>().is_err());
    }
}
