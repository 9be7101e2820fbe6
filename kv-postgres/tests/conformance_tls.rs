//! The conformance suite over TLS, with the server's certificate verified.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::{Fresh, Suite};
use kv_core::{Durability, Survives};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::postgres::Postgres;

fn main() {
    let declared = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));
    let server = Postgres::builder().tls().start().unwrap();
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), server.ca_certificate().display());
    let open = move |fresh: Fresh| PostgresStore::builder().url(&url).unwrap().table(fresh.name()).open();
    Suite::new("postgres over TLS", declared, open).with_reopen().with_second_handle().main()
}
