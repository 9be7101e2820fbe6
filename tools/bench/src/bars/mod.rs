//! The performance bars of the workspace. A bar is the ratio of two sides that are measured in one run, and the
//! required value of this ratio.

pub(crate) mod embedded;
mod handle;
mod memory;
pub(crate) mod postgres;
pub(crate) mod redis;
mod watch;
mod watchers;

use std::path::Path;
use std::time::Duration;

use kv_cli::Progress;
use kv_cli::bench::{Closed, Operation, Settings, Side, closed_loop, figure};

use crate::bar::{Bar, Required, table, update_table};
use crate::federation;
use crate::rounds::Rounds;

/// The options of the measurements.
#[derive(Debug)]
pub(crate) struct BenchOptions {
    pub(crate) settings: Settings,
    /// Load the full number of entries everywhere, which takes long.
    pub(crate) full: bool,
    pub(crate) progress: Progress,
}

/// The names of all bars, in the order of the table.
pub(crate) const NAMES: [&str; 16] = [
    "bar-mem-get",
    "bar-mem-set",
    "bar-mem-list",
    "bar-mem-bounded",
    "bar-kv",
    "bar-embedded",
    "bar-group-commit",
    "bar-redis-get",
    "bar-redis-set",
    "bar-redis-list",
    "bar-pg-get",
    "bar-pg-set",
    "bar-pg-flat",
    "bar-watch",
    "bar-watchers",
    "bar-federation",
];

impl BenchOptions {
    pub(crate) fn rounds(&self) -> Rounds {
        Rounds::of(&self.settings)
    }

    /// Returns `full` with `--full`, else `default`.
    pub(crate) fn entries(&self, default: u64, full: u64) -> u64 {
        if self.full { full } else { default }
    }

    /// Runs a closed loop of an operation on the sides. The first side is the raw driver.
    pub(crate) async fn closed_loop(&self, sides: &[Side], operation: Operation, tasks: usize) -> Closed {
        closed_loop(sides, operation, tasks, &self.settings, &self.progress).await.unwrap().unwrap()
    }
}

/// Measures the bars whose names contain one of `names`, or all bars if `names` is empty. Prints the table of these
/// bars and updates the table of the file `into`. Returns true if each bar is at most `margin` times worse than
/// required.
pub(crate) async fn run(names: &[String], into: Option<&Path>, margin: f64, options: &BenchOptions) -> bool {
    let is_selected = |name: &str| names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()));
    let any_selected = |names: &[&str]| names.iter().any(|name| is_selected(name));
    let mut bars = Vec::new();
    let mut add = |measured: Vec<Bar>| {
        options.progress.suspend(|| measured.iter().for_each(Bar::log));
        bars.extend(measured);
    };
    if any_selected(&["bar-mem-get", "bar-mem-set", "bar-mem-list", "bar-mem-bounded"]) {
        add(on_own_thread(|| memory::bars(options, &is_selected)));
    }
    if is_selected("bar-kv") {
        add(on_own_thread(|| handle::bars(options)));
    }
    if any_selected(&["bar-embedded", "bar-group-commit"]) {
        add(embedded::bars(options, &is_selected).await);
    }
    if any_selected(&["bar-redis-get", "bar-redis-set", "bar-redis-list"]) {
        add(redis::bars(options, &is_selected).await);
    }
    if any_selected(&["bar-pg-get", "bar-pg-set", "bar-pg-flat"]) {
        add(postgres::bars(options, &is_selected).await);
    }
    if is_selected("bar-watch") {
        add(watch::bars(options).await);
    }
    if is_selected("bar-watchers") {
        add(on_own_thread(|| watchers::bars(options)));
    }
    if is_selected("bar-federation") {
        // The duration limits one play of the recording. It is at least 4 s, so that a fast layer plays the whole
        // recording. A slow layer plays only a part of it.
        let settings =
            Settings { duration: options.settings.duration.max(Duration::from_secs(4)), ..options.settings.clone() };
        let longer = BenchOptions { settings, full: options.full, progress: Progress::hidden() };
        add(federation::run(&[], &longer).await);
    }
    options.progress.finish();
    println!("{}", table(&bars));
    if let Some(file) = into {
        update_table(file, &bars);
    }
    bars.iter().all(|bar| bar.is_within(margin))
}

/// Runs `measure` on a separate thread, for calls that are polled by hand. Inside a task, tokio's cooperative budget
/// would make tokio's locks return `Pending` until a yield that never comes.
fn on_own_thread<T: Send>(measure: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(measure).join().unwrap())
}

/// Creates a bar: the throughput of `side` in a closed loop, relative to the first side.
fn throughput_bar(id: &'static str, label: &str, min: f64, closed: &Closed, side: usize) -> Bar {
    let (raw, ours) = (&closed.sides[0], &closed.sides[side]);
    let tasks = closed.tasks;
    let mut details = format!("{}/s, raw {}/s", figure(ours.rate.median), figure(raw.rate.median));
    for (name, side) in [("per call", ours), ("raw", raw)] {
        // Commands that run more rarely belong to background work, not to the operation.
        let counted = side.counted.iter().filter(|(_, each)| **each >= 0.005);
        let counted: Vec<String> = counted.map(|(counter, each)| format!("{counter} {}", figure(*each))).collect();
        if !counted.is_empty() {
            details = format!("{details}; {name}: {}", counted.join(", "));
        }
    }
    let label = format!("{label}, {tasks} task{}: throughput", if tasks == 1 { "" } else { "s" });
    Bar::spread(id, label, Required::AtLeast(min), ours.ratio).details(details)
}
