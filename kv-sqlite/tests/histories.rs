//! Random histories of calls of every kind, with kills, compared with a reference model.
//!
//! In each round a child runs a part of a history and is killed at a random moment. The outcomes of its calls, and the
//! state of the store after the kill, must be possible according to the model. The store's clock advances by a minute
//! per round, so that entries expire between rounds. `CRASH_ROUNDS` sets the number of rounds, by default 30.
//! `CRASH_SEED` repeats a history, but not the moments of its kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::time::Duration;

use kv_core::{Clock, KvStore, SystemClock};
use kv_sqlite::SyncMode;

mod support;
use support::history::{Expected, Run, run_child};
use support::{KillOnDrop, Random, block_on, child, test};

fn main() {
    support::main(
        |name| block_on(run_child(Run::from_name(name))),
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
    let mut expected = Expected::new();
    for round in 0..rounds {
        let run = Run { seed, round, steps: 100_000, sync };
        let mut running = KillOnDrop(child(&run.to_name(), &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap());
        // In every tenth round the test does not wait for `ready`, so that the child may be killed while it opens the
        // store.
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
            expected.apply_line(run, &line);
        }
        block_on(async {
            let store = run.open(&path).await.unwrap();
            expected.check(run, &store, false).await;
            store.close().await.unwrap();
        });
    }
    let Expected { acknowledged, errors, .. } = expected;
    eprintln!("{sync:?}: {rounds} kills, {acknowledged} acknowledged calls agree with the model, {errors} errors");
    assert!(acknowledged > usize::try_from(rounds).unwrap() && errors == 0);
}
