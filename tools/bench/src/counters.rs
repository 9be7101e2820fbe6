//! Counters of the servers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use kv_cli::bench::Counters;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// The commands that a Redis server ran, including the commands of scripts.
#[derive(Debug, Clone)]
pub(crate) struct Commands(pub(crate) Arc<Redis>);

impl Counters for Commands {
    fn read(&self) -> BTreeMap<String, u64> {
        let stats = self.0.cli(&["INFO", "commandstats"]).unwrap();
        let line = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(line).filter(|(name, _)| !name.contains("info")).collect()
    }
}

/// The WAL syncs of a PostgreSQL server. Sessions report their own counters, such as commits, only after the time slice
/// in which they were counted.
#[derive(Debug, Clone)]
pub(crate) struct Flushes(pub(crate) Arc<Postgres>);

impl Counters for Flushes {
    fn read(&self) -> BTreeMap<String, u64> {
        let syncs = self.0.psql("kv", "SELECT wal_sync FROM pg_stat_wal").unwrap();
        BTreeMap::from([("syncs".to_owned(), syncs.trim().parse().unwrap())])
    }
}
