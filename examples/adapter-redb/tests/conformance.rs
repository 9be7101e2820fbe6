//! Runs the conformance suite.

use adapter_redb::{CAPABILITIES, RedbStore};
use conformance_tests::{Fresh, Suite};
use kv_core::{Error, Key, Result};
use redb::{Database, ReadableTable, TableDefinition};

fn main() {
    let open = |fresh: Fresh| async move {
        RedbStore::builder().clock(fresh.clock()).open(fresh.folder()?.join("store.redb")).await
    };
    let damage = |fresh: Fresh, key: Key| async move { damage(&fresh, &key) };
    Suite::new("redb", CAPABILITIES, open).with_clock().with_reopen().with_crash().with_damage(damage).main()
}

/// Changes the last byte of the stored value.
fn damage(fresh: &Fresh, key: &Key) -> Result<()> {
    const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("anykv");
    let path = fresh.folder()?.join("store.redb");
    let physical = format!("d{}", key.as_str());
    let change = || -> Result<bool, Box<dyn std::error::Error>> {
        let transaction = Database::open(path)?.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            let Some(mut bytes) = table.get(physical.as_bytes())?.map(|value| value.value().to_vec()) else {
                return Ok(false);
            };
            bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
            table.insert(physical.as_bytes(), bytes.as_slice())?;
        }
        transaction.commit()?;
        Ok(true)
    };
    match change() {
        Ok(true) => Ok(()),
        result => Err(Error::unavailable(format!("the entry was not damaged: {result:?}"))),
    }
}
