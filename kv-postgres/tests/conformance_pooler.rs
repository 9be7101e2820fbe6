//! The conformance suite through a transaction pooler. `listen_url` is the URL of the server itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;

fn main() {
    // The server runs without `fsync`, so the store declares a lower durability.
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));
    let start = || {
        let server = Postgres::start().unwrap();
        let pooler = PgBouncer::start(&server).unwrap();
        let addresses = format!("{} {}", pooler.url("kv"), server.url());
        ((pooler, server), addresses)
    };
    let open = |addresses: String, fresh: Fresh| async move {
        let (pooler, server) = addresses.split_once(' ').unwrap();
        let builder = PostgresStore::builder().url(pooler)?.table(fresh.name());
        builder.pooled(true).listen_url(server).open().await
    };
    Suite::on_backend("postgres-pooler", declared, start, open).with_reopen().main()
}
