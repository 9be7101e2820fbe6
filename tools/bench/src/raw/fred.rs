//! fred: one connection, one command per call.

use anykv::{Bytes, Key, KeyPrefix};
use fred::prelude::{Client, ClientLike, Config, Expiration, KeysInterface};
use fred::types::Value;
use kv_cli::bench::{Operation, TTL};

use super::remote::RemoteDriver;

#[derive(Debug, Clone)]
pub(crate) struct RawFred(Client);

impl RawFred {
    pub(crate) async fn open(url: &str) -> Self {
        let client = Client::new(Config::from_url(url).unwrap(), None, None, None);
        client.init().await.unwrap();
        Self(client)
    }
}

fn name(key: &Key) -> String {
    format!("fred#{}", key.as_str())
}

impl RemoteDriver for RawFred {
    fn name(&self) -> &'static str {
        "fred"
    }

    fn survives(&self) -> &'static str {
        "kill -9 of this process"
    }

    async fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(name(key)).await.unwrap()
    }

    async fn set(&self, key: &Key, value: Bytes) {
        self.0.set::<(), _, _>(name(key), Value::Bytes(value), None, None, false).await.unwrap();
    }

    async fn set_ttl(&self, key: &Key, value: Bytes) -> Option<()> {
        let expire = Some(Expiration::EX(i64::try_from(TTL.as_secs()).unwrap()));
        self.0.set::<(), _, _>(name(key), Value::Bytes(value), expire, None, false).await.unwrap();
        Some(())
    }

    async fn set_many(&self, entries: &[(Key, Bytes)]) {
        let values: Vec<(String, Value)> =
            entries.iter().map(|(key, value)| (name(key), Value::Bytes(value.clone()))).collect();
        self.0.mset(values).await.unwrap();
    }

    async fn get_many(&self, keys: &[Key]) -> usize {
        let names: Vec<String> = keys.iter().map(name).collect();
        let found: Vec<Option<Bytes>> = self.0.mget(names).await.unwrap();
        found.iter().flatten().count()
    }

    async fn list(&self, _: &KeyPrefix) -> usize {
        0
    }

    fn can(&self, operation: Operation) -> bool {
        operation != Operation::List
    }
}
