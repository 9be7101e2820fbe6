//! What the tests share.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::OnceLock;

use kv_redis::RedisBuilder;
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;

/// One server for all cases of a test program, started by the first.
pub(crate) fn server() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start().unwrap())
}

/// One cluster for all cases of a test program, started by the first.
pub(crate) fn cluster_url() -> &'static str {
    static CLUSTER: OnceLock<(RedisCluster, String)> = OnceLock::new();
    let (_, url) = CLUSTER.get_or_init(|| {
        let cluster = RedisCluster::start().unwrap();
        let url = cluster.url();
        (cluster, url)
    });
    url
}

/// A builder for the store that a URL names.
pub(crate) fn at(url: &str) -> RedisBuilder {
    RedisBuilder::from_url(&url.parse().unwrap()).unwrap()
}
