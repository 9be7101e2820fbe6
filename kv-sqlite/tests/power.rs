//! A loss of power, by a model of the medium: a child's calls that change files are recorded, and at many points of them the
//! files are put together as the medium may have them then, without what was not synced, or with some sectors of it.
//!
//! What was acknowledged before such a point must be there, nothing may be half there, and the store must open. `CRASH_IMAGES`
//! says at how many points, 120 unless said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use kv_core::KvStore;
use kv_sqlite::SyncMode;

mod support;
use support::life::{Account, Life, live};
use support::trace::{EVERYTHING, Event, Loss, Medium, events, traced};
use support::{Random, block_on, test};

fn main() {
    support::main(
        |name| block_on(live(Life::from_name(name))),
        vec![
            test("a_loss_of_power_takes_nothing_acknowledged", || lose_power(SyncMode::EveryCommit)),
            test("a_loss_of_power_takes_the_last_commits_in_order", || lose_power(SyncMode::LosesOnPowerCut)),
        ],
    );
}

fn lose_power(sync: SyncMode) {
    let mut random = Random::new();
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| random.below(u64::MAX), |seed| seed.parse().unwrap());
    eprintln!("CRASH_SEED={seed}");
    // Enough for the log to be copied back and begun anew while the child writes.
    let life = Life { seed, round: 0, steps: 500, sync };
    let folder = tempfile::tempdir().unwrap();
    let (data, output) = (folder.path().join("data"), folder.path().join("trace"));
    std::fs::create_dir(&data).unwrap();
    let Some(mut command) = traced(&life.to_name(), &data.join("store.sqlite"), &EVERYTHING, &output) else { return };
    assert!(command.output().unwrap().status.success());
    let events = events(&std::fs::read_to_string(&output).unwrap(), &data);

    // The file is created by the first of them, which is a story of its own.
    let mut points: BTreeSet<usize> = (0..60).collect();
    let wanted: usize = std::env::var("CRASH_IMAGES").map_or(120, |images| images.parse().unwrap());
    let syncs: Vec<usize> =
        events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Synced(_))).map(|(at, _)| at).collect();
    while points.len() < (60 + wanted).min(events.len() / 2) {
        points.insert(if random.below(3) == 0 { syncs[random.index(syncs.len())] } else { random.index(events.len()) });
    }
    let (mut medium, mut account, mut images, mut behind) = (Medium::default(), Account::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        medium.happen(event);
        if let Event::Said(line) = event {
            account.hear(life, line);
        }
        if points.contains(&at) {
            for loss in [Loss::All, Loss::Nothing, Loss::Some, Loss::Some] {
                let image = tempfile::tempdir().unwrap();
                medium.lose(loss, &mut random, image.path());
                let what = format!("event {at} of {}, of what was not synced is lost: {loss:?}", events.len());
                behind += u32::from(block_on(examine(life, account.clone(), image.path(), &what)));
                images += 1;
            }
        }
    }
    assert!(account.errors == 0 && account.acknowledged > 1_000, "{} acknowledged", account.acknowledged);
    // A model that takes nothing from who does not sync would show nothing of who does.
    assert_eq!(behind > 0, sync == SyncMode::LosesOnPowerCut, "{behind} images behind");
    eprintln!(
        "{sync:?}: {} acknowledged calls, {} syncs, {images} images of the medium, {behind} behind, as \
         promised each",
        account.acknowledged,
        syncs.len()
    );
}

async fn examine(life: Life, mut account: Account, image: &Path, what: &str) -> bool {
    let opened = life.open(&image.join("store.sqlite")).await;
    let store = opened.unwrap_or_else(|error| panic!("CRASH_SEED={}, {what}: {error:?}", life.seed));
    let is_behind = account.check(life, &store, true).await;
    store.close().await.unwrap();
    is_behind
}
