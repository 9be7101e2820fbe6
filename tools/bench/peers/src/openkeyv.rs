//! openkeyv: collections of values with deadlines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use openkeyv::store::disk::DiskStore;
use openkeyv::store::memory::MemoryStore;
use openkeyv::store::postgres::PostgresStore;
use openkeyv::store::redis::RedisStore;
use openkeyv::{AsyncKeyValue, Value};
use player::Peer;

use crate::text;

struct OpenKeyv(Box<dyn AsyncKeyValue>);

pub(crate) async fn open(url: &str) -> Arc<dyn Peer> {
    let (scheme, rest) = url.split_once(':').unwrap();
    let store: Box<dyn AsyncKeyValue> = match scheme {
        "memory" => Box::new(MemoryStore::new()),
        "redis" => Box::new(RedisStore::new(url).await.unwrap()),
        "postgres" => Box::new(PostgresStore::new(url, Some("openkeyv")).await.unwrap()),
        _ => Box::new(DiskStore::new(rest).unwrap()),
    };
    Arc::new(OpenKeyv(store))
}

impl fmt::Debug for OpenKeyv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenKeyv").finish_non_exhaustive()
    }
}

#[async_trait]
impl Peer for OpenKeyv {
    async fn get(&self, key: &[String]) -> Option<Bytes> {
        self.0.get(&text(key), None).await.unwrap().map(|value| value.bytes().clone())
    }

    async fn set(&self, key: &[String], value: Bytes, ttl: Option<Duration>) {
        let ttl = ttl.map(|ttl| ttl.as_secs_f64());
        self.0.put(&text(key), Value::binary(value), None, ttl).await.unwrap();
    }

    async fn delete(&self, key: &[String]) {
        self.0.delete(&text(key), None).await.unwrap();
    }

    async fn list(&self, _: &[String]) -> Option<usize> {
        None
    }
}
