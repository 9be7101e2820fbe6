//! The conformance suite through a pooler of transactions, with an address of the server itself to listen to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;

fn main() {
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let (url, listen) = (pooler.url("kv"), server.url());
    let open = move |fresh: Fresh| {
        let builder = PostgresStore::builder().url(&url).unwrap().table(fresh.name());
        builder.pooled(true).listen_url(&listen).open()
    };
    Suite::new("postgres behind a pooler", declared, open).with_reopen().with_second_handle().main()
}
