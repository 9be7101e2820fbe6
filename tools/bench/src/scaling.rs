//! The cost of each operation by the number of entries. Each size has its own store, and rounds interleave the stores.

use std::path::Path;
use std::sync::Arc;

use anykv::KvStore;
use anykv::memory::MemoryStore;
use anykv::redis::Index;
use kv_cli::bench::{self, Dataset, Report, Side, StoreSubject};
use test_servers::redis::Redis;

use crate::bars::{BenchOptions, postgres, redis};
use crate::drivers::write_report;

/// The backends that can be measured.
pub(crate) const BACKENDS: [&str; 5] = ["memory", "sqlite", "sled", "redis", "postgres"];

/// Measures the backends at each size, prints the report, and writes the report into the folder `into`.
pub(crate) async fn run(backends: &[String], sizes: &[u64], options: &BenchOptions, into: Option<&Path>) {
    let mut report = Report::default();
    for backend in
        BACKENDS.into_iter().filter(|name| backends.is_empty() || backends.iter().any(|wanted| wanted == name))
    {
        report.extend(measure(backend, sizes, options).await);
    }
    options.progress.finish();
    println!("{report}");
    if let Some(folder) = into {
        write_report(folder, &report);
    }
}

async fn measure(backend: &str, sizes: &[u64], options: &BenchOptions) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let mut redis_servers = Vec::new();
    let postgres_server = (backend == "postgres").then(postgres::server);
    let mut stores = Vec::new();
    for &entries in sizes {
        let store: Arc<dyn KvStore> = match (backend, &postgres_server) {
            ("memory", _) => Arc::new(MemoryStore::new()),
            ("sqlite", _) => {
                let path = folder.path().join(format!("{entries}.db"));
                Arc::new(anykv::sqlite::SqliteStore::open(path).await.unwrap())
            }
            ("sled", _) => {
                let path = folder.path().join(format!("{entries}.sled"));
                Arc::new(anykv::sled::SledStore::open(path).await.unwrap())
            }
            (_, Some(server)) => postgres::open(server, &format!("of_{entries}")).await,
            (_, None) => {
                let server = Redis::start().unwrap();
                let store = redis::open(&server.url(), "kv", Index::Auto).await;
                redis_servers.push(server);
                Arc::new(store)
            }
        };
        let subject = Arc::new(StoreSubject::new(format!("kv-{backend}"), store));
        stores.push(Side::new(subject, Arc::new(Dataset::new(entries, 100, 1).unwrap())));
    }
    bench::run(&stores, &options.settings, &options.progress).await.unwrap()
}
