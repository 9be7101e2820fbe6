//! The URL schemes, and opening a store by URL.

use std::sync::Arc;

use kv_core::{KvStore, Opening, Operation, Result, Scheme, StoreUrl};

use crate::address;
use crate::builder::RedisBuilder;
use crate::error::CONTEXT;
use crate::store::RedisStore;

/// The usage text of a scheme: its address, the options of all schemes, and the options of its own.
macro_rules! usage {
    ($address:literal, $own:literal) => {
        concat!(
            $address,
            " with ?namespace=kv&create=true&format=entry|plain&index=auto|ordered|none&buckets=64&group_segments=2&connect_timeout=5s\
             &operation_timeout=10s&heartbeat=1s&watch_loss_bound=2s&sweep_interval=100ms&max_value=16MiB&user=NAME&pass=SECRET",
            $own
        )
    };
}

/// The scheme `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` for a [`Registry`](kv_core::Registry): one server through TCP.
pub const SCHEME: Scheme =
    scheme(address::TCP, usage!("redis://[USER:PASSWORD@]HOST[:PORT][/DB]", "&db=0&nodelay=false"));

/// The scheme `rediss://[USER:PASSWORD@]HOST[:PORT][/DB]`: one server through TLS.
pub const TLS_SCHEME: Scheme = scheme(
    address::TLS,
    usage!("rediss://[USER:PASSWORD@]HOST[:PORT][/DB]", "&db=0&nodelay=false&ca=FILE&cert=FILE&key=FILE"),
);

/// The scheme `redis+unix:///PATH`: one server through a Unix socket.
pub const UNIX_SCHEME: Scheme = scheme(address::UNIX, usage!("redis+unix:///PATH", "&db=0"));

/// The scheme `redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]`: a cluster, by the addresses of some of its
/// nodes; through TLS with the option `tls=true`.
pub const CLUSTER_SCHEME: Scheme = scheme(
    address::CLUSTER,
    usage!(
        "redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]",
        "&nodelay=false&tls=false&ca=FILE&cert=FILE&key=FILE"
    ),
);

/// All schemes of this crate.
pub const SCHEMES: [Scheme; 4] = [SCHEME, TLS_SCHEME, UNIX_SCHEME, CLUSTER_SCHEME];

const fn scheme(name: &'static str, usage: &'static str) -> Scheme {
    Scheme::new(name, usage, opening).with_create()
}

fn opening(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(RedisStore::from_url(&url).await?) as Arc<dyn KvStore>) })
}

impl RedisStore {
    /// Opens the store at a URL, as [`RedisStore::from_url`] does.
    ///
    /// # Errors
    /// The errors of [`RedisStore::from_url`], and `Invalid` if the text is not a URL.
    pub async fn open(url: &str) -> Result<Self> {
        let builder = url.parse().and_then(|url| RedisBuilder::from_url(&url));
        CONTEXT.operation(Operation::Open, builder)?.open().await
    }

    /// Opens the store at a URL. The URL must have one of the [`SCHEMES`], and may have the fields of
    /// [`RedisConfig`](crate::RedisConfig) as options.
    ///
    /// # Errors
    /// The errors of [`RedisBuilder::from_url`] and [`RedisBuilder::open`].
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        RedisBuilder::from_url(url)?.open().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AddressKind;
    use crate::codec::Format;
    use crate::config::Index;
    use crate::options::{Mode, RULES};

    #[test]
    fn the_usage_of_each_scheme_has_exactly_the_options_that_it_uses() {
        for scheme in SCHEMES {
            let options = scheme.usage.split_once('?').unwrap().1;
            let kind = match scheme.name {
                address::TCP | address::TLS => AddressKind::Tcp,
                address::UNIX => AddressKind::Socket,
                _ => AddressKind::Cluster,
            };
            let has_tls = [address::TLS, address::CLUSTER].contains(&scheme.name);
            let mode = Mode { kind, has_tls, format: Format::Entry, index: Index::Auto };
            for rule in &RULES {
                let is_listed = options.split('&').any(|pair| pair.split('=').next() == Some(rule.option));
                assert_eq!(is_listed, (rule.is_used)(&mode), "{} {}", scheme.name, rule.option);
            }
        }
    }
}
