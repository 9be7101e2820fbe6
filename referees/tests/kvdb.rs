//! What `kvdb` asks of its own databases.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod stores;

use std::io;
use std::sync::{Arc, OnceLock};

use kvdb_shared_tests::{
    IO_STATS_NUM_COLUMNS, test_delete_and_get, test_get_fails_with_non_existing_column, test_io_stats, test_iter,
    test_iter_with_prefix, test_put_and_get, test_write_clears_buffered_ops,
};
use libtest_mimic::{Arguments, Failed, Trial};
use referees::Database;

use crate::stores::Grounds;

/// A function of the referee.
type Judge = fn(&Database) -> io::Result<()>;

const JUDGES: &[(&str, u32, Judge)] = &[
    ("put_and_get", 1, |database| test_put_and_get(database)),
    ("delete_and_get", 1, |database| test_delete_and_get(database)),
    ("get_fails_with_non_existing_column", 1, |database| test_get_fails_with_non_existing_column(database)),
    ("write_clears_buffered_ops", 1, |database| test_write_clears_buffered_ops(database)),
    ("iter", 1, |database| test_iter(database)),
    ("iter_with_prefix", 1, |database| test_iter_with_prefix(database)),
    ("io_stats", IO_STATS_NUM_COLUMNS, |database| test_io_stats(database)),
];

fn main() {
    let arguments = Arguments::from_args();
    let grounds: Arc<OnceLock<Grounds>> = Arc::default();
    let trials = stores::names().into_iter().enumerate().flat_map(|(place, store)| {
        let grounds = Arc::clone(&grounds);
        JUDGES.iter().map(move |(judge, columns, run)| {
            let (grounds, columns, run) = (Arc::clone(&grounds), *columns, *run);
            Trial::test(format!("{store}/{judge}"), move || {
                let (_, url) = grounds.get_or_init(Grounds::new).urls().swap_remove(place);
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let store = runtime.block_on(stores::open(&url));
                run(&Database::new(store, columns, runtime)).map_err(|error| Failed::from(error.to_string()))
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The servers stop here, which `exit` would not wait for.
    drop(grounds);
    conclusion.exit();
}
