//! The tests that `kvdb` runs on its own databases.

use std::io;
use std::sync::Arc;

use anykv::KvStore;
use kvdb_shared_tests as upstream;
use referees::{Database, Failed, Referee, Runtime};

fn run(
    store: Arc<dyn KvStore>,
    columns: u32,
    runtime: Runtime,
    test: fn(&Database) -> io::Result<()>,
) -> Result<(), Failed> {
    test(&Database::new(store, columns, runtime)).map_err(|error| Failed::from(error.to_string()))
}

/// A test that runs a published function on a database with `$columns` columns.
macro_rules! referee {
    ($name:literal, $columns:expr, $test:path) => {
        Referee::new($name, |store: Arc<dyn KvStore>, runtime: Runtime| {
            run(store, $columns, runtime, |database| $test(database))
        })
    };
}

fn main() {
    referees::main(&[
        referee!("put_and_get", 1, upstream::test_put_and_get),
        referee!("delete_and_get", 1, upstream::test_delete_and_get),
        referee!("get_fails_with_non_existing_column", 1, upstream::test_get_fails_with_non_existing_column),
        referee!("write_clears_buffered_ops", 1, upstream::test_write_clears_buffered_ops),
        referee!("iter", 1, upstream::test_iter),
        referee!("iter_with_prefix", 1, upstream::test_iter_with_prefix),
        referee!("io_stats", upstream::IO_STATS_NUM_COLUMNS, upstream::test_io_stats),
    ]);
}
