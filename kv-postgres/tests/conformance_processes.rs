//! The conformance suite with handles in two processes that take turns.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;

fn main() {
    // The server does not wait for the disk, and the store finds that out.
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
