//! The conformance suite with the default durability and with write-behind.

use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Error, Key, Result, Survives};
use kv_sled::{CAPABILITIES, SledDurability, SledStore};

/// Short enough that the buffer is flushed while a case runs, and long enough that cases read pending writes.
const INTERVAL: Duration = Duration::from_millis(20);

fn main() {
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Process).with_interval(INTERVAL));
    let suites = [
        Suite::new("sled", CAPABILITIES, |fresh| open(fresh, SledDurability::default())),
        Suite::new("sled-interval", declared, |fresh| open(fresh, SledDurability::Interval(INTERVAL))),
    ];
    Suite::main_of(suites.map(|suite| {
        let damage = |fresh: Fresh, key: Key| async move { damage(&fresh, &key) };
        suite.with_clock().with_reopen().with_damage(damage).with_crash()
    }))
}

async fn open(fresh: Fresh, durability: SledDurability) -> Result<SledStore> {
    let path = fresh.folder()?.join("store");
    SledStore::builder().durability(durability).clock(fresh.clock()).open(path).await
}

/// Changes the last byte of the stored value.
fn damage(fresh: &Fresh, key: &Key) -> Result<()> {
    let folder = fresh.folder()?.join("store");
    let physical = format!("d{}", key.as_str());
    let change = || -> sled::Result<bool> {
        let db = sled::Config::new().path(&folder).flush_every_ms(None).open()?;
        let Some(record) = db.get(&physical)? else { return Ok(false) };
        let mut bytes = record.to_vec();
        bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
        db.insert(&physical, bytes)?;
        db.flush()?;
        // Without this mark of a clean end, the store does not compare the checksum of the whole tree.
        std::fs::remove_file(folder.join("sealed"))?;
        Ok(true)
    };
    match change() {
        Ok(true) => Ok(()),
        result => Err(Error::unavailable(format!("the entry was not damaged: {result:?}"))),
    }
}
