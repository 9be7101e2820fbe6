//! Losses of power, simulated with a model of the disk.
//!
//! `strace` records the file operations of a child. At many points of the recording, the test rebuilds the files as the
//! medium may have them after a loss of power: without the unsynced changes, or with only some sectors of these
//! changes. The store must open, must have everything that was acknowledged before the point, and no write may be
//! partially applied. `CRASH_IMAGES` sets the number of points, by default 120.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use kv_core::KvStore;
use kv_sqlite::SyncMode;

mod support;
use support::history::{Expected, Run, run_child};
use support::trace::{Event, FILE_CALLS, Loss, Medium, events, traced};
use support::{Random, block_on, test};

fn main() {
    support::main(
        |name| block_on(run_child(Run::from_name(name))),
        vec![
            test("a_loss_of_power_loses_nothing_acknowledged", || lose_power(SyncMode::EveryCommit)),
            test("without_a_sync_per_commit_a_loss_of_power_loses_only_the_last_commits", || {
                lose_power(SyncMode::LosesOnPowerCut);
            }),
        ],
    );
}

fn lose_power(sync: SyncMode) {
    let mut random = Random::new();
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| random.below(u64::MAX), |seed| seed.parse().unwrap());
    eprintln!("CRASH_SEED={seed}");
    // 500 steps per task are enough for a checkpoint and a restart of the log while the child writes.
    let run = Run { seed, round: 0, steps: 500, sync };
    let folder = tempfile::tempdir().unwrap();
    let (data, output) = (folder.path().join("data"), folder.path().join("trace"));
    std::fs::create_dir(&data).unwrap();
    let Some(mut command) = traced(&run.to_name(), &data.join("store.sqlite"), &FILE_CALLS, &output) else { return };
    assert!(command.output().unwrap().status.success());
    let events = events(&std::fs::read_to_string(&output).unwrap(), &data);

    // Each of the first 60 events is a point, because they create the file.
    let mut points: BTreeSet<usize> = (0..60).collect();
    let count: usize = std::env::var("CRASH_IMAGES").map_or(120, |images| images.parse().unwrap());
    let syncs: Vec<usize> =
        events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Synced(_))).map(|(at, _)| at).collect();
    while points.len() < (60 + count).min(events.len() / 2) {
        points.insert(if random.below(3) == 0 { syncs[random.index(syncs.len())] } else { random.index(events.len()) });
    }
    let (mut medium, mut expected, mut images, mut behind) = (Medium::default(), Expected::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        medium.apply(event);
        if let Event::Printed(line) = event {
            expected.apply_line(run, line);
        }
        if points.contains(&at) {
            for loss in [Loss::All, Loss::Nothing, Loss::Some, Loss::Some] {
                let image = tempfile::tempdir().unwrap();
                medium.lose(loss, &mut random, image.path());
                let case = format!("event {at} of {}, lost unsynced changes: {loss:?}", events.len());
                behind += u32::from(block_on(examine(run, expected.clone(), image.path(), &case)));
                images += 1;
            }
        }
    }
    assert!(expected.errors == 0 && expected.acknowledged > 1_000, "{} acknowledged", expected.acknowledged);
    // Without a sync per commit the model must lose commits. Otherwise the test would prove nothing about synced
    // commits.
    assert_eq!(behind > 0, sync == SyncMode::LosesOnPowerCut, "{behind} images with lost commits");
    eprintln!(
        "{sync:?}: {} acknowledged calls, {} syncs, {images} images of the medium, {behind} with \
         lost commits as promised",
        expected.acknowledged,
        syncs.len()
    );
}

/// Checks that the store in an image has a possible state. Returns true if acknowledged commits are lost.
async fn examine(run: Run, mut expected: Expected, image: &Path, case: &str) -> bool {
    let opened = run.open(&image.join("store.sqlite")).await;
    let store = opened.unwrap_or_else(|error| panic!("CRASH_SEED={}, {case}: {error:?}", run.seed));
    let is_behind = expected.check(run, &store, true).await;
    store.close().await.unwrap();
    is_behind
}
