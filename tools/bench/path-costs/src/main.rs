//! Walks one path in memory so many times, and nothing else that depends on how often: `scripts/instructions` runs it under
//! callgrind with two counts, and the difference is what the path costs.
//!
//! `path-costs` alone names the paths, `path-costs <path> <times>` walks one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here has no figure")]

mod fixture;
mod paths;

use tokio::runtime::Builder;

use self::paths::{PATHS, walk};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(times)) = (arguments.next(), arguments.next()) else {
        return PATHS.iter().for_each(|path| println!("{path}"));
    };
    // The sweeper's task is started on it and never runs, for nothing here waits.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(walk(&path, times.parse().expect("how many times")));
    // What a path has left is not taken down: that would cost as much as it is.
    std::process::exit(0);
}
