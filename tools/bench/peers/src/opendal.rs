//! OpenDAL: files in a key-value store. OpenDAL has no deadlines and no conditional writes on these services.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opendal::services::{Memory, Moka, Postgresql, Redis, Sled, Sqlite};
use opendal::{ErrorKind, Operator};
use player::Peer;

use crate::text;

#[derive(Debug)]
struct OpenDal(Operator);

pub(crate) fn open(url: &str) -> Arc<dyn Peer> {
    let (scheme, rest) = url.split_once(':').unwrap();
    let operator = match scheme {
        "memory" => Operator::new(Memory::default()),
        "moka" => Operator::new(Moka::default().max_capacity(1 << 40)),
        "redis" => Operator::new(Redis::default().endpoint(url)),
        "postgres" => Operator::new(
            Postgresql::default().connection_string(url).table("opendal").key_field("key").value_field("value"),
        ),
        "sqlite" => {
            let address = format!("sqlite://{rest}");
            Operator::new(
                Sqlite::default().connection_string(&address).table("opendal").key_field("key").value_field("value"),
            )
        }
        _ => Operator::new(Sled::default().datadir(rest)),
    };
    Arc::new(OpenDal(operator.unwrap()))
}

#[async_trait]
impl Peer for OpenDal {
    async fn get(&self, key: &[String]) -> Option<Bytes> {
        match self.0.read(&text(key)).await {
            Ok(value) => Some(value.to_bytes()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn set(&self, key: &[String], value: Bytes, _: Option<Duration>) {
        self.0.write(&text(key), value).await.unwrap();
    }

    async fn delete(&self, key: &[String]) {
        self.0.delete(&text(key)).await.unwrap();
    }

    async fn list(&self, _: &[String]) -> Option<usize> {
        None
    }
}
