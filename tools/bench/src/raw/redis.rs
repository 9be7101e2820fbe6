//! redis-rs: one multiplexed connection, one command per call.

use anykv::redis::redis::aio::MultiplexedConnection;
use anykv::redis::redis::{self, Client};
use anykv::{Bytes, Key, KeyPrefix};
use kv_cli::bench::TTL;

use super::remote::RemoteDriver;

/// One connection. Values are Redis strings. A sorted set of the keys serves `list`. Only loading updates the sorted
/// set.
#[derive(Debug, Clone)]
pub(crate) struct RawRedis(MultiplexedConnection);

fn name(key: &Key) -> String {
    format!("raw#{}", key.as_str())
}

impl RawRedis {
    pub(crate) async fn open(url: &str) -> Self {
        Self(Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap())
    }
}

impl RemoteDriver for RawRedis {
    fn name(&self) -> &'static str {
        "redis-rs"
    }

    fn survives(&self) -> &'static str {
        "kill -9 of this process"
    }

    async fn get(&self, key: &Key) -> Option<Bytes> {
        let found: Option<Vec<u8>> = redis::cmd("GET").arg(name(key)).query_async(&mut self.0.clone()).await.unwrap();
        found.map(Bytes::from)
    }

    async fn set(&self, key: &Key, value: Bytes) {
        redis::cmd("SET").arg(name(key)).arg(&value[..]).query_async::<()>(&mut self.0.clone()).await.unwrap();
    }

    async fn set_ttl(&self, key: &Key, value: Bytes) -> Option<()> {
        let mut command = redis::cmd("SET");
        command.arg(name(key)).arg(&value[..]).arg("EX").arg(TTL.as_secs());
        command.query_async::<()>(&mut self.0.clone()).await.unwrap();
        Some(())
    }

    async fn set_many(&self, entries: &[(Key, Bytes)]) {
        let mut pipeline = redis::pipe();
        for (key, value) in entries {
            pipeline.cmd("SET").arg(name(key)).arg(&value[..]).ignore();
            pipeline.cmd("ZADD").arg("raw!").arg(0).arg(key.as_str()).ignore();
        }
        pipeline.query_async::<()>(&mut self.0.clone()).await.unwrap();
    }

    async fn get_many(&self, keys: &[Key]) -> usize {
        let names: Vec<String> = keys.iter().map(name).collect();
        let found: Vec<Option<Vec<u8>>> = redis::cmd("MGET").arg(names).query_async(&mut self.0.clone()).await.unwrap();
        found.iter().flatten().count()
    }

    /// Runs a list as two commands, which is the minimum without a script.
    async fn list(&self, prefix: &KeyPrefix) -> usize {
        let from = prefix.as_str().unwrap_or_default();
        let mut command = redis::cmd("ZRANGE");
        command.arg("raw!").arg(format!("[{from}")).arg(format!("({from}$")).arg("BYLEX").arg("LIMIT").arg(0).arg(100);
        let found: Vec<String> = command.query_async(&mut self.0.clone()).await.unwrap();
        let names: Vec<String> = found.iter().map(|key| format!("raw#{key}")).collect();
        let values: Vec<Vec<u8>> = redis::cmd("MGET").arg(names).query_async(&mut self.0.clone()).await.unwrap();
        values.len()
    }
}
