//! The recorded traffic of a federated server, by 16 clients, on our stores and on other layers over the same backend.

mod backend;
mod own;
mod player;

use std::time::Duration;

use anykv::Kv;
use kv_cli::Progress;
use kv_cli::bench::{Series, Table, figure, spread};
use kv_cli::replay::{Replay, Settings, Workload};

use self::backend::Backend;
use self::player::Player;
use crate::bar::{Bar, Required};
use crate::bars::Measuring;

pub(crate) use self::backend::BACKENDS;

/// How far ahead of Fedify's store on PostgreSQL ours must be, where as many rows are there as in production.
const FAR: f64 = 100.0;

/// How many clients play.
pub(crate) const CLIENTS: usize = 16;

/// One side: who it is, and what its turns came to.
#[derive(Debug)]
struct Side {
    name: String,
    player: Player,
    rates: Series,
    wrong: u64,
    /// Why it is not run, or not any more.
    failed: Option<String>,
}

/// Plays on each backend, prints a table for each, and gives the bars.
pub(crate) async fn run(backends: &[String], measuring: &Measuring) -> Vec<Bar> {
    let mut bars = Vec::new();
    for name in BACKENDS.into_iter().filter(|name| backends.is_empty() || backends.iter().any(|wanted| wanted == name))
    {
        bars.extend(one(name, measuring).await);
    }
    bars
}

async fn one(name: &str, measuring: &Measuring) -> Vec<Bar> {
    let backend = Backend::start(name).await;
    // Layers that sync each write by itself would take minutes to load more.
    let share = if measuring.full {
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
            Err(reason) => (Player::Absent, Some(reason)),
        };
        sides.push(Side { name: layer, player, rates: Series::default(), wrong: 0, failed });
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
    for round in 0..=measuring.settings.rounds {
        for side in &mut sides {
            side.turn(round > 0, measuring.settings.duration).await;
        }
    }
    for side in sides.iter().filter(|side| side.failed.is_some()) {
        eprintln!("{name}: {}: NOT RUN: {}", side.name, side.failed.as_deref().unwrap_or_default());
    }
    println!("### {name}, {CLIENTS} clients, {entries} entries loaded before, {}\n", backend.durability());
    println!("{}", table(&sides));
    let mut bars = compared(name, entries, &sides, measuring.full);
    bars.push(checked(name, &backend.kv()).await);
    bars
}

impl Side {
    fn fail(&mut self, reason: String) {
        self.failed.get_or_insert(reason);
        self.player = Player::Absent;
    }

    async fn turn(&mut self, counts: bool, at_most: Duration) {
        if self.failed.is_some() {
            return;
        }
        match self.player.play(at_most).await {
            Ok(played) if counts => {
                self.rates.0.push(played.operations as f64 / played.seconds);
                self.wrong += played.wrong;
            }
            Ok(_) => {}
            Err(reason) => self.fail(reason),
        }
    }
}

fn table(sides: &[Side]) -> Table {
    let mut table = Table::new(["layer", "operations a second", "ours by theirs", "wrong answers"]);
    for side in sides {
        let ratio = sides[0].rates.over(&side.rates).spread();
        match side.rates.spread().filter(|_| side.failed.is_none()) {
            Some(rate) => {
                table.row([
                    side.name.clone(),
                    spread(rate),
                    ratio.map_or_else(String::new, spread),
                    side.wrong.to_string(),
                ]);
            }
            None => table.row([side.name.as_str(), "NOT RUN", "", ""]),
        }
    }
    table
}

fn compared(backend: &str, entries: u64, sides: &[Side], full: bool) -> Vec<Bar> {
    let ours = &sides[0].rates;
    let peers = sides.iter().skip(1).filter(|side| side.failed.is_none());
    let bar = |side: &Side| {
        let is_far = backend == "postgres" && side.name == "Fedify" && full;
        let required = Required::AtLeast(if is_far { FAR } else { 1.0 });
        let what = format!("{backend}: the replay beside {}, {entries} entries loaded: rate", side.name);
        let [own, theirs] = [ours, &side.rates].map(|rates| figure(crate::rounds::median(rates)));
        Bar::new("bar-federation", what, required, &ours.over(&side.rates)).beside(format!("{own}/s, {theirs}/s"))
    };
    let mut bars: Vec<Bar> = peers.map(bar).collect();
    if backend == "postgres" && !full {
        // Each of Fedify's writes looks through its whole table.
        let what = "postgres: the replay beside Fedify, 200,000 rows and more (only with --full): rate";
        bars.push(Bar::spread("bar-federation", what, Required::AtLeast(FAR), None));
    }
    bars
}

/// The replay that checks every answer of ours against a model.
async fn checked(backend: &str, kv: &Kv) -> Bar {
    let file = std::fs::File::open(backend::recording()).unwrap();
    let workload = Workload::read(file, None).unwrap();
    let replay = Replay::new(kv, workload, Settings { clients: CLIENTS, ..Settings::default() }).unwrap();
    let report = replay.run(&Progress::hidden()).await.unwrap();
    replay.clear().await.unwrap();
    let what = format!("{backend}: wrong answers and errors of ours, by `kv replay`'s model");
    Bar::once("bar-federation", what, Required::AtMost(0.0), (report.wrong + report.errors) as f64)
}
