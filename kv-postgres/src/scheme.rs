//! The URL schemes, and opening a store by URL.

use std::sync::Arc;

use kv_core::{KvStore, Opening, Result, Scheme, StoreUrl};

use crate::builder::PostgresBuilder;
use crate::store::PostgresStore;

/// The form of a URL, with the defaults of its options.
const USAGE: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE with \
    ?table=kv&schema=public&create=true&sync=every-commit|loses-last-moments|loses-all-on-crash&connections=8&pooled=false\
    &listen_url=URL&connect_timeout=5s&operation_timeout=10s&lock_timeout=2s&sweep_interval=1s\
    &watch_loss_bound=2s&max_value=16MiB\
    &sslmode=verify-full&sslrootcert=PATH";

/// The scheme `postgres://…`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new("postgres", USAGE, open).with_create();

/// The scheme `postgresql://…`, which PostgreSQL's own programs accept as well.
pub const SCHEME_LONG: Scheme = Scheme::new("postgresql", USAGE, open).with_create();

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move {
        let store = PostgresStore::from_url(&url).await?;
        Ok(Arc::new(store) as Arc<dyn KvStore>)
    })
}

impl PostgresStore {
    /// Opens the store of a URL such as `postgres://user:password@host/database?table=kv`.
    ///
    /// # Errors
    /// The errors of [`PostgresBuilder::open`], and `Invalid` for a URL of another scheme or with an unknown option.
    pub async fn open(url: &str) -> Result<Self> {
        PostgresBuilder::new().url(url)?.open().await
    }

    /// Opens the store of a parsed URL: `postgres://…`, with the fields of [`PostgresConfig`](crate::PostgresConfig) as
    /// options.
    ///
    /// # Errors
    /// The errors of [`PostgresStore::open`].
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        PostgresBuilder::from_url(url)?.open().await
    }
}
