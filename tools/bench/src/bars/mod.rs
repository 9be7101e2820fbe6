//! The bars of the workspace's performance: each a ratio that is measured in one run.

pub(crate) mod embedded;
mod handle;
mod memory;
pub(crate) mod postgres;
pub(crate) mod redis;
mod watch;

use std::path::Path;
use std::time::Duration;

use kv_cli::Progress;
use kv_cli::bench::{Closed, Operation, Settings, Side, closed_loop, figure};

use crate::bar::{Bar, Required, keep, table};
use crate::federation;
use crate::rounds::Rounds;

/// How the bars are measured.
#[derive(Debug)]
pub(crate) struct Measuring {
    pub(crate) settings: Settings,
    /// As many entries as the bars say everywhere, which takes long to load.
    pub(crate) full: bool,
    pub(crate) progress: Progress,
}

/// Every bar, by name.
pub(crate) const NAMES: [&str; 15] = [
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
    "bar-federation",
];

impl Measuring {
    pub(crate) fn rounds(&self) -> Rounds {
        Rounds::of(&self.settings)
    }

    /// Many where everything is measured in full.
    pub(crate) fn entries(&self, usual: u64, full: u64) -> u64 {
        if self.full { full } else { usual }
    }

    /// An operation on several sides, of which the first is the raw driver.
    pub(crate) async fn beside(&self, sides: &[Side], operation: Operation, tasks: usize) -> Closed {
        closed_loop(sides, operation, tasks, &self.settings, &self.progress).await.unwrap().unwrap()
    }
}

/// Measures the bars that have one of these in their names, all of them without names, and puts them into a file's table. Tells
/// whether all are so many times as bad as required at most.
pub(crate) async fn run(names: &[String], into: Option<&Path>, margin: f64, measuring: &Measuring) -> bool {
    let wants = |name: &str| names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()));
    let wants_any = |names: &[&str]| names.iter().any(|name| wants(name));
    let mut bars = Vec::new();
    let mut add = |some: Vec<Bar>| {
        measuring.progress.suspend(|| some.iter().for_each(Bar::tell));
        bars.extend(some);
    };
    if wants_any(&["bar-mem-get", "bar-mem-set", "bar-mem-list", "bar-mem-bounded"]) {
        add(apart(|| memory::bars(measuring, &wants)));
    }
    if wants("bar-kv") {
        add(apart(|| handle::bars(measuring)));
    }
    if wants_any(&["bar-embedded", "bar-group-commit"]) {
        add(embedded::bars(measuring, &wants).await);
    }
    if wants_any(&["bar-redis-get", "bar-redis-set", "bar-redis-list"]) {
        add(redis::bars(measuring, &wants).await);
    }
    if wants_any(&["bar-pg-get", "bar-pg-set", "bar-pg-flat"]) {
        add(postgres::bars(measuring, &wants).await);
    }
    if wants("bar-watch") {
        add(watch::bars(measuring).await);
    }
    if wants("bar-federation") {
        // A turn is a whole replay, or as much of it as a slow layer plays in this time.
        let settings = Settings {
            duration: measuring.settings.duration.max(Duration::from_secs(4)),
            ..measuring.settings.clone()
        };
        let longer = Measuring { settings, full: measuring.full, progress: Progress::hidden() };
        add(federation::run(&[], &longer).await);
    }
    measuring.progress.finish();
    println!("{}", table(&bars));
    if let Some(file) = into {
        keep(file, &bars);
    }
    bars.iter().all(|bar| bar.is_within(margin))
}

/// Measures calls that are polled by hand on a thread of their own: inside of a task the runtime would make what it has lent
/// locks to wait, after some of them, for a yield that never comes.
fn apart<T: Send>(measure: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(measure).join().unwrap())
}

/// A bar on how one side of a closed loop compares with the first.
fn rated(id: &'static str, what: &str, least: f64, closed: &Closed, side: usize) -> Bar {
    let (raw, ours) = (&closed.sides[0], &closed.sides[side]);
    let tasks = closed.tasks;
    let mut beside = format!("{}/s, raw {}/s", figure(ours.rate.median), figure(raw.rate.median));
    for (name, side) in [("a call", ours), ("raw", raw)] {
        // What is rarer is not the operation's own.
        let counted = side.counted.iter().filter(|(_, each)| **each >= 0.005);
        let counted: Vec<String> = counted.map(|(what, each)| format!("{what} {}", figure(*each))).collect();
        if !counted.is_empty() {
            beside = format!("{beside}; {name}: {}", counted.join(", "));
        }
    }
    let what = format!("{what}, {tasks} task{}", if tasks == 1 { "" } else { "s" });
    Bar::spread(id, what, Required::AtLeast(least), ours.ratio).beside(beside)
}
