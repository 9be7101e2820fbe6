//! The conformance suite on one server and on a cluster: each format and index, through TCP and TLS, in one process and
//! in two. Each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Key, Result};
use kv_redis::{
    CAPABILITIES, CLUSTER_CAPABILITIES, CLUSTER_INDEX_FREE_CAPABILITIES, CLUSTER_PLAIN_CAPABILITIES, Format,
    INDEX_FREE_CAPABILITIES, Index, PLAIN_CAPABILITIES, RedisBuilder,
};
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;

mod support;
use support::entry_of;

/// Returns the builder of a case's store, given the URL of the server.
fn at(url: &str, fresh: &Fresh) -> RedisBuilder {
    support::at(url).namespace(fresh.name())
}

fn main() {
    let suites = [
        Suite::on_backend("redis", CAPABILITIES, support::start, |url, fresh| at(&url, &fresh).open())
            .with_damage_on_backend(flip_a_bit),
        Suite::on_backend("redis-buckets-tls", CAPABILITIES, start_tls, |url, fresh| {
            at(&url, &fresh).buckets(4).open()
        }),
        Suite::on_backend("redis-processes", CAPABILITIES, support::start, |url, fresh| at(&url, &fresh).open())
            .in_two_processes()
            .with_damage_on_backend(flip_a_bit),
        Suite::on_backend("redis-index-free", INDEX_FREE_CAPABILITIES, support::start, |url, fresh| {
            at(&url, &fresh).index(Index::None).open()
        })
        .with_damage_on_backend(flip_a_bit),
        Suite::on_backend("redis-plain", PLAIN_CAPABILITIES, support::start, |url, fresh| {
            at(&url, &fresh).format(Format::Plain).open()
        }),
        Suite::on_backend("redis-cluster", CLUSTER_CAPABILITIES, support::start_cluster, |url, fresh| {
            at(&url, &fresh).open()
        })
        .with_damage_on_backend(flip_a_bit),
        Suite::on_backend("redis-cluster-plain-tls", CLUSTER_PLAIN_CAPABILITIES, start_cluster_tls, |url, fresh| {
            at(&url, &fresh).format(Format::Plain).open()
        }),
        Suite::on_backend(
            "redis-cluster-index-free-processes",
            CLUSTER_INDEX_FREE_CAPABILITIES,
            support::start_cluster,
            |url, fresh| at(&url, &fresh).index(Index::None).open(),
        )
        .in_two_processes()
        .with_damage_on_backend(flip_a_bit),
    ];
    Suite::main_of(suites.map(Suite::with_reopen))
}

/// Starts a server with TLS and a user who has only the rights in the README.
fn start_tls() -> (Redis, String) {
    let server = Redis::builder().tls().acl_user("ada", "s3cret", &support::rights("ct_*", "")).start().unwrap();
    let url = format!("{}?ca={}&user=ada&pass=s3cret", server.tls_url(), server.ca_certificate().display());
    (server, url)
}

/// Starts a cluster with TLS and a user who has only the rights in the README.
fn start_cluster_tls() -> (RedisCluster, String) {
    let rights = support::rights("ct_*", support::CLUSTER_RIGHTS);
    let builder = RedisCluster::builder().tls().password("of the default user");
    let cluster = builder.acl_user("ada", "s3cret", &rights).start().unwrap();
    let url = format!("{}&ca={}", cluster.tls_url_of("ada", "s3cret"), cluster.ca_certificate().display());
    (cluster, url)
}

/// Changes the last byte of the stored entry. A value in plain format has no checksum, so any bytes are a valid value.
async fn flip_a_bit(url: String, fresh: Fresh, key: Key) -> Result<()> {
    let (physical, mut server) = entry_of(&url, fresh.name(), &key).await?;
    let mut bytes: Vec<u8> = redis::cmd("GET").arg(&physical).query_async(&mut server).await.unwrap();
    bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    let set: String =
        redis::cmd("SET").arg(&physical).arg(bytes).arg("KEEPTTL").query_async(&mut server).await.unwrap();
    assert_eq!(set, "OK");
    Ok(())
}
