//! tokio-postgres with a deadpool pool. Each call takes a connection and uses prepared statements.

use anykv::postgres::deadpool_postgres::tokio_postgres::{Config, NoTls};
use anykv::postgres::deadpool_postgres::{Manager, Object, Pool};
use anykv::{Bytes, Key, KeyPrefix};
use kv_cli::bench::Operation;

use super::remote::RemoteDriver;

/// The number of connections of each compared store: the store of anykv, and the raw driver.
pub(crate) const CONNECTIONS: usize = 8;

/// A pool, and a table `raw` of keys and values.
#[derive(Debug, Clone)]
pub(crate) struct RawPostgres(Pool);

impl RawPostgres {
    pub(crate) async fn open(url: &str) -> Self {
        let config: Config = url.parse().unwrap();
        let raw = Self(Pool::builder(Manager::new(config, NoTls)).max_size(CONNECTIONS).build().unwrap());
        let sql = r#"CREATE TABLE raw (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80)"#;
        raw.client().await.batch_execute(sql).await.unwrap();
        raw
    }

    async fn client(&self) -> Object {
        self.0.get().await.unwrap()
    }
}

impl RemoteDriver for RawPostgres {
    fn name(&self) -> &'static str {
        "tokio-postgres, pooled"
    }

    fn survives(&self) -> &'static str {
        "loss of power"
    }

    async fn get(&self, key: &Key) -> Option<Bytes> {
        let client = self.client().await;
        let statement = client.prepare_cached("SELECT value FROM raw WHERE key = $1").await.unwrap();
        let row = client.query_opt(&statement, &[&key.as_str()]).await.unwrap()?;
        Some(Bytes::copy_from_slice(row.get(0)))
    }

    async fn set(&self, key: &Key, value: Bytes) {
        let client = self.client().await;
        let sql = "INSERT INTO raw VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let statement = client.prepare_cached(sql).await.unwrap();
        client.execute(&statement, &[&key.as_str(), &value.as_ref()]).await.unwrap();
    }

    async fn set_ttl(&self, _: &Key, _: Bytes) -> Option<()> {
        None
    }

    async fn set_many(&self, entries: &[(Key, Bytes)]) {
        let client = self.client().await;
        let sql = "INSERT INTO raw SELECT * FROM unnest($1::text[], $2::bytea[])
             ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let statement = client.prepare_cached(sql).await.unwrap();
        let (keys, values): (Vec<&str>, Vec<&[u8]>) =
            entries.iter().map(|(key, value)| (key.as_str(), value.as_ref())).unzip();
        client.execute(&statement, &[&keys, &values]).await.unwrap();
    }

    async fn get_many(&self, keys: &[Key]) -> usize {
        let client = self.client().await;
        let statement = client.prepare_cached("SELECT key, value FROM raw WHERE key = any($1)").await.unwrap();
        let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let rows = client.query(&statement, &[&keys]).await.unwrap();
        // `keys` may contain a key twice. The query returns that key once.
        let found: std::collections::HashSet<&str> = rows.iter().map(|row| row.get(0)).collect();
        keys.iter().filter(|key| found.contains(*key)).count()
    }

    async fn list(&self, prefix: &KeyPrefix) -> usize {
        let client = self.client().await;
        let sql = "SELECT key, value FROM raw WHERE key >= $1 AND key < $2 ORDER BY key LIMIT 100";
        let statement = client.prepare_cached(sql).await.unwrap();
        let from = prefix.as_str().unwrap_or_default();
        client.query(&statement, &[&from, &format!("{from}$")]).await.unwrap().len()
    }

    fn can(&self, operation: Operation) -> bool {
        operation != Operation::SetTtl
    }
}
