//! The conformance suite on one server: directly, through a transaction pooler, and over TLS from two processes. Each
//! store has a table of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Capabilities, Durability, Error, Key, Result, Survives};
use kv_postgres::deadpool_postgres::tokio_postgres::{self, NoTls};
use kv_postgres::{CAPABILITIES, PostgresStore};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::{Postgres, PostgresBuilder};

/// The servers run without `fsync`, so the store declares a lower durability.
const DECLARED: Capabilities = CAPABILITIES.with_durability(Durability::surviving(Survives::Server));

/// The number of random scripts in the suites that reach the same statements on another way.
const SECONDARY_SCRIPTS: usize = 8;

fn main() {
    let suites = [
        Suite::on_backend("postgres", DECLARED, start, open),
        Suite::on_backend("postgres-pooler", DECLARED, start_pooler, open_pooled).with_scripts(SECONDARY_SCRIPTS),
        Suite::on_backend("postgres-tls-processes", DECLARED, start_tls, open)
            .in_two_processes()
            .with_scripts(SECONDARY_SCRIPTS),
    ];
    Suite::main_of(suites.map(|suite| suite.with_reopen().with_damage_on_backend(damage)))
}

/// Returns the builder of a server for many short-lived tables. Their creation is a large part of the time of a case, so
/// it writes less to the log, and no background process vacuums tables that no case uses any more.
fn server() -> PostgresBuilder {
    [("wal_level", "minimal"), ("max_wal_senders", "0"), ("autovacuum", "off"), ("shared_buffers", "32MB")]
        .into_iter()
        .fold(Postgres::builder(), |builder, (name, value)| builder.setting(name, value))
}

fn start() -> (Postgres, String) {
    let server = server().start().unwrap();
    let url = server.url();
    (server, url)
}

/// Starts a server with TLS. Its URL asks for the verification of the certificate.
fn start_tls() -> (Postgres, String) {
    let server = server().tls().start().unwrap();
    let ca = server.ca_certificate().display();
    let url = format!("{}?sslmode=verify-full&sslrootcert={ca}", server.url());
    (server, url)
}

/// Starts a server behind a pooler, and returns the URLs of both.
fn start_pooler() -> ((PgBouncer, Postgres), String) {
    let server = server().start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let urls = format!("{} {}", pooler.url("kv"), server.url());
    ((pooler, server), urls)
}

async fn open(url: String, fresh: Fresh) -> Result<PostgresStore> {
    PostgresStore::builder().url(&url)?.table(fresh.name()).open().await
}

async fn open_pooled(urls: String, fresh: Fresh) -> Result<PostgresStore> {
    let (pooler, server) = urls.split_once(' ').unwrap();
    let builder = PostgresStore::builder().url(pooler)?.table(fresh.name());
    builder.pooled(true).listen_url(server).open().await
}

/// Changes the first byte of the stored value through a connection without TLS and without a pooler.
async fn damage(urls: String, fresh: Fresh, key: Key) -> Result<()> {
    let url = urls.split_once(' ').map_or(urls.as_str(), |(_, server)| server);
    let url = url.split('?').next().unwrap_or(url);
    let change = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let running = tokio::spawn(connection);
        let value = "set_byte(value, 0, get_byte(value, 0) # 1)";
        let sql = format!("UPDATE {} SET value = {value} WHERE key = $1", fresh.name());
        let rows = client.execute(&sql, &[&key.as_str()]).await;
        running.abort();
        rows
    };
    match change.await {
        Ok(1) => Ok(()),
        result => Err(Error::unavailable(format!("the entry was not damaged: {result:?}"))),
    }
}
