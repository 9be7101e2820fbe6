//! Suites for stores over other stores, such as wrappers that encrypt, count or cache.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{BoxFuture, Capabilities, KvStore, Result, delegate_store};

use crate::fresh::Fresh;
use crate::suite::Suite;

impl Suite {
    /// A suite for a store over the stores of this suite, with the same hooks. `wrap` puts an outer store over an inner
    /// store, also over each handle in a second process.
    ///
    /// # Examples
    /// ```no_run
    /// use std::sync::Arc;
    /// use conformance_tests::{Fresh, Suite};
    /// use kv_core::{KvStore, Namespace, Namespaced};
    /// use kv_memory::{CAPABILITIES, MemoryStore};
    ///
    /// Suite::new("memory", CAPABILITIES, |fresh: Fresh| async move { MemoryStore::builder().clock(fresh.clock()).build() })
    ///     .with_clock()
    ///     .layered("in a namespace", CAPABILITIES, |inner: Arc<dyn KvStore>, _fresh| async move {
    ///         Ok(Namespaced::new(inner, Namespace::new(["app"])?))
    ///     })
    ///     .in_namespaces()
    ///     .main();
    /// ```
    #[must_use]
    pub fn layered<F, S>(
        self,
        name: impl Into<String>,
        capabilities: Capabilities,
        wrap: impl Fn(Arc<dyn KvStore>, Fresh) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let wrap = Arc::new(wrap);
        let wrap = move |inner, fresh| -> BoxFuture<'static, Result<Arc<dyn KvStore>>> {
            let wrap = Arc::clone(&wrap);
            Box::pin(async move { Ok(Arc::new(wrap(inner, fresh).await?) as Arc<dyn KvStore>) })
        };
        self.map_stores(name.into(), capabilities, Arc::new(wrap))
    }

    /// A suite for a store that refuses writes, over the stores of this suite. The cases write to the inner store, and
    /// read, list, watch and subscribe through the outer one.
    #[must_use]
    pub fn layered_for_reading<F, S>(
        self,
        name: impl Into<String>,
        capabilities: Capabilities,
        wrap: impl Fn(Arc<dyn KvStore>, Fresh) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let wrap = Arc::new(wrap);
        let wrap = move |inner: Arc<dyn KvStore>, fresh| -> BoxFuture<'static, Result<Arc<dyn KvStore>>> {
            let wrap = Arc::clone(&wrap);
            Box::pin(async move {
                let outer = Arc::new(wrap(Arc::clone(&inner), fresh).await?);
                Ok(Arc::new(ReadThrough { inner, outer }) as Arc<dyn KvStore>)
            })
        };
        self.map_stores(name.into(), capabilities, Arc::new(wrap))
    }
}

/// A store that writes to an inner store and reads through an outer one.
#[derive(Debug)]
struct ReadThrough {
    inner: Arc<dyn KvStore>,
    outer: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ReadThrough {
    delegate_store!(self.outer, except set delete set_many delete_many clear touch increment commit publish flush sweep close);
    delegate_store!(self.inner, except info get get_with time get_many contains list watch watch_into
        subscribe ping close);

    async fn close(&self) -> Result<()> {
        let closed = self.outer.close().await;
        self.inner.close().await.and(closed)
    }
}
