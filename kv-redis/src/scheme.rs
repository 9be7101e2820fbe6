//! The URL schemes, and opening a store by URL.

use std::sync::Arc;

use kv_core::{KvStore, Opening, Operation, Result, Scheme, StoreUrl};

use crate::address;
use crate::builder::RedisBuilder;
use crate::error::CONTEXT;
use crate::store::RedisStore;

macro_rules! usage {
    ($address:literal) => {
        concat!(
            $address,
            " with ?namespace=kv&format=entry|plain&index=auto|ordered|none&buckets=64&group_segments=2\
             &connect_timeout=5s&operation_timeout=10s&heartbeat=1s&sweep_interval=100ms&max_value=16MiB\
             &db=0&user=NAME&pass=SECRET&ca=FILE&cert=FILE&key=FILE&nodelay=false&tls=false"
        )
    };
}

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new(address::TCP, usage!("redis://[USER:PASSWORD@]HOST[:PORT][/DB]"), opening);

/// As [`SCHEME`], with TLS.
pub const TLS_SCHEME: Scheme = Scheme::new(address::TLS, usage!("rediss://[USER:PASSWORD@]HOST[:PORT][/DB]"), opening);

/// `redis+unix:///PATH`, through a Unix socket.
pub const UNIX_SCHEME: Scheme = Scheme::new(address::UNIX, usage!("redis+unix:///PATH"), opening);

/// `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, some nodes of a cluster; with TLS where `tls=true`.
pub const CLUSTER_SCHEME: Scheme =
    Scheme::new(address::CLUSTER, usage!("redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]"), opening);

/// Every scheme of this crate.
pub const SCHEMES: [Scheme; 4] = [SCHEME, TLS_SCHEME, UNIX_SCHEME, CLUSTER_SCHEME];

fn opening(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(RedisStore::from_url(&url).await?) as Arc<dyn KvStore>) })
}

impl RedisStore {
    /// Opens the store at a URL, as [`RedisStore::from_url`] does.
    ///
    /// # Errors
    /// As [`RedisBuilder::open`].
    pub async fn open(url: &str) -> Result<Self> {
        let builder = url.parse().and_then(|url| RedisBuilder::from_url(&url));
        CONTEXT.operation(Operation::Open, builder)?.open().await
    }

    /// Opens the store at a URL: an address of one of the [`SCHEMES`], with the fields of
    /// [`RedisConfig`](crate::RedisConfig) as options.
    ///
    /// # Errors
    /// As [`RedisBuilder::open`], and `Invalid` for a URL that is not one of this crate.
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        RedisBuilder::from_url(url)?.open().await
    }
}
