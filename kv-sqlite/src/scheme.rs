//! The URL schemes, and opening a store by URL.

use std::path::Path;
use std::sync::Arc;

use kv_core::{Error, ErrorKind, KvStore, Result, Scheme, StoreUrl};

use crate::builder::SqliteBuilder;
use crate::store::SqliteStore;

/// The scheme of the URLs `sqlite:PATH` and `sqlite::memory:`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new(
    "sqlite",
    "sqlite:PATH or sqlite::memory: with ?table=kv&create=true&sync=every-commit|loses-on-power-cut&busy_timeout=10s\
     &operation_timeout=10s&sweep_interval=1s&readers=8&max_value=16MiB&min_free=1MiB",
    |url| {
        Box::pin(async move {
            let store = SqliteStore::from_url(&url).await?;
            Ok(Arc::new(store) as Arc<dyn KvStore>)
        })
    },
)
.with_create()
.with_verify(|url, take| {
    Box::pin(async move {
        let store = match SqliteStore::from_url(&url).await {
            // The file may be a store that another program changed. Then report the changes.
            Err(refusal) if refusal.kind() == ErrorKind::Corrupt => {
                return Ok(builder(&url)?.verify_refused(refusal, take).await?.into());
            }
            opened => opened?,
        };
        let found = store.salvage(take).await?;
        store.close().await?;
        Ok(found.into())
    })
});

impl SqliteStore {
    /// Opens the store in a file, with the default settings of [`SqliteConfig`](crate::SqliteConfig).
    ///
    /// # Errors
    /// The errors of [`SqliteBuilder::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().path(path.as_ref()).open().await
    }

    /// Opens the store of a URL: `sqlite:PATH` or `sqlite::memory:`, with the fields of
    /// [`SqliteConfig`](crate::SqliteConfig) as options.
    ///
    /// # Errors
    /// The errors of [`SqliteBuilder::open`], and `Invalid` for a URL of another scheme or with an unknown option.
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        builder(url)?.open().await
    }
}

fn builder(url: &StoreUrl) -> Result<SqliteBuilder> {
    if url.scheme() != SCHEME.name {
        return Err(Error::invalid(format!("the scheme `{}:` is not `{}:`", url.scheme(), SCHEME.name)));
    }
    let builder = SqliteStore::builder().config(url.options()?);
    Ok(if url.rest() == ":memory:" { builder.in_memory() } else { builder.path(url.path()?) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;
    use crate::config::{SqliteConfig, SyncMode};

    #[test]
    fn a_url_sets_every_field() {
        let url: StoreUrl =
            "sqlite:x.db?table=t&create=false&sync=loses-on-power-cut&busy_timeout=1s&operation_timeout=2s\
                             &sweep_interval=3s&readers=4&max_value=9MiB&min_free=2MiB"
                .parse()
                .unwrap();
        let expected = SqliteConfig {
            table: "t".into(),
            create: false,
            sync: SyncMode::LosesOnPowerCut,
            busy_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(3),
            readers: 4,
            max_value: ByteSize::mib(9),
            min_free: ByteSize::mib(2),
        };
        assert_eq!(url.options::<SqliteConfig>().unwrap(), expected);
    }
}
