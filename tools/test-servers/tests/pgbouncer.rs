//! A connection pooler in transaction mode.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use std::process::{Command, Stdio};

use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;

/// Runs a script in one `psql` session and returns its output.
fn session(url: &str, script: &str) -> String {
    let mut command = Command::new("psql");
    let command = command.args(["-X", "-A", "-t", "-q", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn clients_share_server_connections() {
    let postgres = Postgres::start().unwrap();
    postgres.create_database("other").unwrap();
    let bouncer = PgBouncer::start(&postgres).unwrap();
    assert_eq!(session(&bouncer.url("other"), "select current_database();"), "other\n");
    assert_eq!(
        session(&bouncer.url("pgbouncer"), "show config;").lines().find(|l| l.starts_with("pool_mode")).unwrap(),
        "pool_mode|transaction|session|yes"
    );
    // Two clients, one after the other, get the same server connection.
    let server_pid = |_| session(&bouncer.url("kv"), "select pg_backend_pid();");
    assert_eq!(server_pid(1), server_pid(2));
}

#[test]
fn a_killed_pooler_restarts_on_its_port_and_stops_on_drop() {
    let postgres = Postgres::start().unwrap();
    let mut bouncer = PgBouncer::start(&postgres).unwrap();
    let (url, address) = (bouncer.url("kv"), bouncer.address());
    bouncer.kill().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    bouncer.restart().unwrap();
    assert_eq!(session(&url, "select 1;"), "1\n");
    drop(bouncer);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(postgres.psql("kv", "select 1").unwrap(), "1");
}
