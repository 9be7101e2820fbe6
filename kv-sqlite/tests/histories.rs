//! Random histories over every kind of call, with crash points, against a reference model.
//!
//! A child lives through a part of a history and is killed at a random moment; each outcome that it was told, and what is
//! there afterwards, is what the model says; then the history goes on, a minute later by the store's clock, so that entries
//! expire between the rounds. `CRASH_ROUNDS` says how often, 30 times unless said; `CRASH_SEED` repeats a history (though not
//! the moments of its kills).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::time::Duration;

use kv_core::{Clock, KvStore, SystemClock};
use kv_sqlite::SyncMode;

mod support;
use support::life::{Account, Life, live};
use support::{Killed, Random, block_on, child, test};

fn main() {
    support::main(
        |name| block_on(live(Life::from_name(name))),
        vec![
            test("histories_with_kills_agree_with_the_model", || histories(SyncMode::EveryCommit)),
            test("histories_with_kills_agree_with_the_model_without_a_sync", || histories(SyncMode::LosesOnPowerCut)),
        ],
    );
}

fn histories(sync: SyncMode) {
    let rounds: u64 = std::env::var("CRASH_ROUNDS").map_or(30, |rounds| rounds.parse().unwrap());
    let mut random = Random::new();
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| random.below(u64::MAX), |seed| seed.parse().unwrap());
    eprintln!("CRASH_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.sqlite");
    let mut account = Account::new();
    for round in 0..rounds {
        let life = Life { seed, round, steps: 100_000, sync };
        let mut running = Killed(child(&life.to_name(), &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap());
        // Every tenth child may be killed while it opens the store.
        if round % 10 != 9 {
            let mut ready = String::new();
            lines.read_line(&mut ready).unwrap();
            assert_eq!(ready.trim(), "ready", "round {round}");
        }
        let reader = std::thread::spawn(move || lines.lines().collect::<Result<Vec<_>, _>>().unwrap());
        block_on(SystemClock.sleep(Duration::from_millis(random.below(200))));
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        for line in reader.join().unwrap() {
            account.hear(life, &line);
        }
        block_on(async {
            let store = life.open(&path).await.unwrap();
            account.check(life, &store, false).await;
            store.close().await.unwrap();
        });
    }
    let Account { acknowledged, errors, .. } = account;
    eprintln!("{sync:?}: {rounds} kills, {acknowledged} acknowledged calls as the model says, {errors} errors");
    assert!(acknowledged > usize::try_from(rounds).unwrap() && errors == 0);
}
