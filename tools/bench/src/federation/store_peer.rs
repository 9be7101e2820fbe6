//! A store of anykv as a [`Peer`].

use std::sync::Arc;
use std::time::Duration;

use anykv::{Bytes, DeleteOptions, DeleteOutcome, Expiry, Key, KeyPrefix, KvStore, ListQuery, SetOptions, When};
use async_trait::async_trait;
use player::Peer;

/// A store of anykv. Each call builds its key from the segments, as the other layers do.
#[derive(Debug)]
pub(super) struct StorePeer(pub(super) Arc<dyn KvStore>);

fn key(segments: &[String]) -> Key {
    Key::new(segments).unwrap()
}

fn options(ttl: Option<Duration>) -> SetOptions {
    SetOptions::default().with_expiry(ttl.map_or(Expiry::Never, Expiry::After))
}

#[async_trait]
impl Peer for StorePeer {
    async fn get(&self, segments: &[String]) -> Option<Bytes> {
        self.0.get(&key(segments)).await.unwrap().map(|entry| entry.value)
    }

    async fn set(&self, segments: &[String], value: Bytes, ttl: Option<Duration>) {
        assert!(self.0.set(&key(segments), value, &options(ttl)).await.unwrap().is_stored());
    }

    async fn delete(&self, segments: &[String]) {
        self.0.delete(&key(segments), &DeleteOptions::default()).await.map(drop).unwrap();
    }

    async fn cas(
        &self,
        segments: &[String],
        expected: Option<&Bytes>,
        value: Option<&Bytes>,
        ttl: Option<Duration>,
    ) -> bool {
        let key = key(segments);
        let when = match self.0.get(&key).await.unwrap() {
            found if found.as_ref().map(|entry| &entry.value) != expected => return false,
            Some(entry) => entry.version.map_or(When::Value(entry.value), When::Version),
            None => When::Absent,
        };
        if let Some(value) = value {
            let options = options(ttl).with_when(when);
            return self.0.set(&key, value.clone(), &options).await.unwrap().is_stored();
        }
        let outcome = self.0.delete(&key, &DeleteOptions::default().with_when(when)).await.unwrap();
        !matches!(outcome, DeleteOutcome::Refused { .. })
    }

    async fn list(&self, prefix: &[String]) -> Option<usize> {
        let query = ListQuery::new(KeyPrefix::new(prefix).unwrap());
        Some(self.0.list(&query).await.unwrap().items.len())
    }
}
