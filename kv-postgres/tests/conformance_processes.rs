//! The conformance suite with store handles in two processes. The calls alternate between the processes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;

fn main() {
    // The server runs without `fsync`, so the store declares a lower durability.
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));
    let start = || {
        let server = Postgres::start().unwrap();
        let url = server.url();
        (server, url)
    };
    let open =
        |url: String, fresh: Fresh| async move { PostgresStore::builder().url(&url)?.table(fresh.name()).open().await };
    Suite::on_backend("postgres-processes", declared, start, open).with_reopen().in_two_processes().main()
}
