//! The program on private servers: opens every scheme and replays the recording.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

mod support;

use serde_json::Value;
use test_servers::cluster::RedisCluster;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

use self::support::{kv, workload};

/// Writes and reads an entry in separate processes.
fn writes_and_reads(url: &str) {
    kv().args(["--store", url, "set", "users#1", "ada", "--ttl", "1h"]).assert().success();
    let read = kv().args(["--store", url, "get", "users#1"]).assert().success();
    assert_eq!(read.get_output().stdout, b"ada", "{url}");
}

/// A command that reads refuses a missing namespace or table twice. The second refusal proves that nothing was created.
fn mistyped_store_is_refused(url: &str) {
    for _ in 0..2 {
        for arguments in [&["get", "a"][..], &["list"], &["export"], &["copy", url, "memory:"]] {
            let output = kv().args(["--store", url]).args(arguments).assert().code(2).get_output().clone();
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains("there is no store"), "{arguments:?}: {message}");
        }
    }
    writes_and_reads(url);
}

/// Replays with 16 clients over a part of the production prefill. `KV_PREFILL_SCALE=1` loads the whole prefill.
fn replays(url: &str) {
    let scale = std::env::var("KV_PREFILL_SCALE").unwrap_or_else(|_| "0.01".to_owned());
    let arguments =
        ["--store", url, "--format", "json", "replay", "--clients", "16", "--prefill", "--prefill-scale", &scale];
    let output = kv().args(arguments).arg(workload()).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let found = [&report["wrong"], &report["errors"], &report["unchecked"]];
    assert!(found.iter().all(|count| **count == 0), "{url}: {report}");
    assert_eq!(report["rounds"][0]["operations"], 10_714);
}

#[test]
fn redis_opens_by_every_scheme_and_replays() {
    let server = Redis::builder().tls().start().unwrap();
    let through_tls = format!("{}?ca={}", server.tls_url(), server.ca_certificate().display());
    for url in [server.url(), through_tls, server.unix_url()] {
        writes_and_reads(&url);
    }
    mistyped_store_is_refused(&format!("{}?namespace=mistyped", server.url()));
    replays(&server.url());
}

#[test]
fn a_cluster_opens_and_replays() {
    let cluster = RedisCluster::start().unwrap();
    writes_and_reads(&cluster.url());
    mistyped_store_is_refused(&format!("{}?namespace=mistyped", cluster.url()));
    replays(&cluster.url());
}

#[test]
fn postgres_opens_by_both_schemes_and_replays() {
    let server = Postgres::start().unwrap();
    for url in [server.url(), server.url().replacen("postgres:", "postgresql:", 1)] {
        writes_and_reads(&url);
    }
    let separator = if server.url().contains('?') { '&' } else { '?' };
    mistyped_store_is_refused(&format!("{}{separator}table=mistyped", server.url()));
    replays(&server.url());
}
