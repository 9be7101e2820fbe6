//! Runs one code path of the in-memory store a given number of times. `scripts/instructions` runs it under callgrind
//! with two numbers of runs. All other work is the same both times, so the difference of the counts is the cost of the
//! path.
//!
//! `path-costs` prints the names of the paths. `path-costs <path> <times>` runs one path.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a path fails by panicking")]

mod fixture;
mod paths;

use tokio::runtime::Builder;

use self::paths::{PATHS, run};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(times)) = (arguments.next(), arguments.next()) else {
        return PATHS.iter().for_each(|path| println!("{path}"));
    };
    // The sweeper's task is spawned on the runtime and never runs, because no path is ever pending.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(run(&path, times.parse().expect("the number of runs")));
    // Exits without dropping the entries, because the cost of dropping the entries depends on the number of runs.
    std::process::exit(0);
}
