//! Replay of the recorded traffic of a federated server by 16 clients, on our stores and on other layers over the same
//! backend.

mod backend;
mod player;
mod store_peer;

use std::time::Duration;

use anykv::Kv;
use kv_cli::Progress;
use kv_cli::bench::{Series, Table, figure, spread};
use kv_cli::replay::{Replay, Settings, Workload};

use self::backend::Backend;
use self::player::Player;
use crate::bar::{Bar, Required};
use crate::bars::BenchOptions;

pub(crate) use self::backend::BACKENDS;

/// The required throughput relative to Fedify's store on PostgreSQL, with as many rows as in production.
const FEDIFY_POSTGRES_RATIO: f64 = 100.0;

/// The number of clients of the replay.
pub(crate) const CLIENTS: usize = 16;

/// One layer and its results.
#[derive(Debug)]
struct Side {
    name: String,
    player: Player,
    throughput: Series,
    wrong: u64,
    /// The reason why the layer did not start or stopped.
    failed: Option<String>,
}

/// Measures the backends, prints a table for each, and returns the bars.
pub(crate) async fn run(backends: &[String], options: &BenchOptions) -> Vec<Bar> {
    let mut bars = Vec::new();
    for name in BACKENDS.into_iter().filter(|name| backends.is_empty() || backends.iter().any(|wanted| wanted == name))
    {
        bars.extend(measure(name, options).await);
    }
    bars
}

async fn measure(name: &str, options: &BenchOptions) -> Vec<Bar> {
    let backend = Backend::start(name).await;
    // Layers that sync each write separately would take minutes to load more entries.
    let share = if options.full {
        1.0
    } else if matches!(name, "sqlite" | "sled") {
        0.02
    } else {
        0.1
    };
    let mut sides = Vec::new();
    for (layer, player) in backend.players() {
        let (player, failed) = match player {
            Ok(player) => (player, None),
            Err(reason) => (Player::Unavailable, Some(reason)),
        };
        sides.push(Side { name: layer, player, throughput: Series::default(), wrong: 0, failed });
    }
    let mut entries = 0;
    for side in &mut sides {
        eprintln!("{name}: {}: loading", side.name);
        match side.player.prefill(share).await {
            Ok(prefilled) => {
                entries = prefilled.entries.max(entries);
                eprintln!("{name}: {}: {} entries in {:.1} s", side.name, prefilled.entries, prefilled.seconds);
            }
            Err(reason) => side.fail(reason),
        }
    }
    for round in 0..=options.settings.rounds {
        for side in &mut sides {
            side.play(round > 0, options.settings.duration).await;
        }
    }
    for side in sides.iter().filter(|side| side.failed.is_some()) {
        eprintln!("{name}: {}: NOT RUN: {}", side.name, side.failed.as_deref().unwrap_or_default());
    }
    println!("### {name}, {CLIENTS} clients, {entries} entries loaded, {}\n", backend.durability());
    println!("{}", table(&sides));
    let mut bars = ratio_bars(name, entries, &sides, options.full);
    bars.push(wrong_answers_bar(name, &backend.kv()).await);
    bars
}

impl Side {
    fn fail(&mut self, reason: String) {
        self.failed.get_or_insert(reason);
        self.player = Player::Unavailable;
    }

    async fn play(&mut self, is_measured: bool, limit: Duration) {
        if self.failed.is_some() {
            return;
        }
        match self.player.play(limit).await {
            Ok(played) if is_measured => {
                self.throughput.0.push(played.operations as f64 / played.seconds);
                self.wrong += played.wrong;
            }
            Ok(_) => {}
            Err(reason) => self.fail(reason),
        }
    }
}

fn table(sides: &[Side]) -> Table {
    let mut table = Table::new(["layer", "operations/s", "anykv ÷ layer", "wrong answers"]);
    for side in sides {
        let ratio = sides[0].throughput.over(&side.throughput).spread();
        match side.throughput.spread().filter(|_| side.failed.is_none()) {
            Some(throughput) => {
                table.row([
                    side.name.clone(),
                    spread(throughput),
                    ratio.map_or_else(String::new, spread),
                    side.wrong.to_string(),
                ]);
            }
            None => table.row([side.name.as_str(), "NOT RUN", "", ""]),
        }
    }
    table
}

fn ratio_bars(backend: &str, entries: u64, sides: &[Side], full: bool) -> Vec<Bar> {
    let ours = &sides[0].throughput;
    let peers = sides.iter().skip(1).filter(|side| side.failed.is_none());
    let bar = |side: &Side| {
        let has_required_ratio = backend == "postgres" && side.name == "Fedify" && full;
        let required = Required::AtLeast(if has_required_ratio { FEDIFY_POSTGRES_RATIO } else { 1.0 });
        let label = format!("{backend}: replay vs {}, {entries} entries loaded: throughput", side.name);
        let [own, theirs] = [ours, &side.throughput].map(|series| figure(crate::rounds::median(series)));
        Bar::new("bar-federation", label, required, &ours.over(&side.throughput))
            .details(format!("{own}/s, {theirs}/s"))
    };
    let mut bars: Vec<Bar> = peers.map(bar).collect();
    if backend == "postgres" && !full {
        // Each write of Fedify's store scans its whole table, so the ratio depends on the number of rows.
        let label = "postgres: replay vs Fedify, at least 200,000 rows (only with --full): throughput";
        bars.push(Bar::spread("bar-federation", label, Required::AtLeast(FEDIFY_POSTGRES_RATIO), None));
    }
    bars
}

/// Replays the recording and checks every answer of anykv against a model.
async fn wrong_answers_bar(backend: &str, kv: &Kv) -> Bar {
    let file = std::fs::File::open(backend::recording()).unwrap();
    let workload = Workload::read(file, None).unwrap();
    let replay = Replay::new(kv, workload, Settings { clients: CLIENTS, ..Settings::default() }).unwrap();
    let report = replay.run(&Progress::hidden()).await.unwrap();
    replay.clear().await.unwrap();
    let label = format!("{backend}: wrong answers and errors of anykv, checked by the model of `kv replay`");
    Bar::once("bar-federation", label, Required::AtMost(0.0), (report.wrong + report.errors) as f64)
}
