//! The handle that applications hold.

use std::sync::Arc;

use crate::codec::Codec;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::Namespace;
use crate::namespaced::Namespaced;
use crate::store::KvStore;

/// A cheap handle over any store: what a framework takes as its `kv` option.
#[derive(Debug, Clone)]
pub struct Kv {
    /// The store that keys of this handle go to, its namespace applied.
    store: Arc<dyn KvStore>,
    /// The store without the namespace.
    root: Arc<dyn KvStore>,
    namespace: Option<Namespace>,
    codec: Codec,
    default_expiry: Expiry,
}

impl Kv {
    /// A handle over a store, with JSON values that never expire unless said.
    pub fn new(store: impl KvStore) -> Self {
        let store: Arc<dyn KvStore> = Arc::new(store);
        Self { root: Arc::clone(&store), store, namespace: None, codec: Codec::Json, default_expiry: Expiry::Never }
    }

    /// The store, as this handle sees it: keys are those of its namespace.
    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    /// Sets how long entries live that are written without a word about it.
    #[must_use]
    pub fn with_default_expiry(mut self, expiry: Expiry) -> Self {
        self.default_expiry = expiry;
        self
    }

    /// How long entries live that are written without a word about it.
    pub fn default_expiry(&self) -> Expiry {
        self.default_expiry
    }

    /// Sets how values are written and read.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// A handle to the namespace inside this handle's own.
    ///
    /// # Errors
    /// `Invalid` where the namespaces together are too long.
    pub fn in_namespace(&self, namespace: &Namespace) -> Result<Self> {
        let namespace = match &self.namespace {
            Some(outer) => outer.nested(namespace)?,
            None => namespace.clone(),
        };
        let store = Arc::new(Namespaced::new(Arc::clone(&self.root), namespace.clone()));
        Ok(Self { store, namespace: Some(namespace), ..self.clone() })
    }
}
