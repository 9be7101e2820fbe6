//! The handle that applications hold.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flights::Flights;
use crate::capability::Capability;
use crate::clock::{Clock, SystemClock};
use crate::codec::Codec;
use crate::error::{Operation, Result};
use crate::expiry::Expiry;
use crate::info::StoreInfo;
use crate::key::{IntoKey, Key, Namespace};
use crate::namespaced::Namespaced;
use crate::store::KvStore;

/// A cheap handle over any store: what an application holds, and what a framework takes as its `kv` option.
///
/// It is not generic, and a clone copies a few pointers. Keys are anything that [`IntoKey`] takes, values are written and
/// read through serde as the handle's [`Codec`] says. What writes is a builder that does nothing until it is awaited;
/// what a store cannot do is the `Unsupported` error of that store.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use kv_core::Kv;
/// use kv_memory::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kv_core::Result<()> {
/// let kv = Kv::new(MemoryStore::new()).namespace(["app"])?;
/// kv.set(["greeting"], "hello").ttl(Duration::from_secs(300)).await?;
/// assert_eq!(kv.get::<String>(["greeting"]).await?.as_deref(), Some("hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Kv {
    /// The store that keys of this handle go to, its namespace applied.
    pub(super) store: Arc<dyn KvStore>,
    /// The store without the namespace.
    root: Arc<dyn KvStore>,
    namespace: Option<Namespace>,
    pub(super) codec: Codec,
    pub(super) default_expiry: Expiry,
    pub(super) clock: Arc<dyn Clock>,
    /// The loads under way, of all clones and all their namespaces.
    pub(super) flights: Flights,
}

impl Kv {
    /// A handle over a store, with JSON values that never expire unless said.
    pub fn new(store: impl KvStore) -> Self {
        let store = shared(store);
        Self {
            root: Arc::clone(&store),
            store,
            namespace: None,
            codec: Codec::Json,
            default_expiry: Expiry::Never,
            clock: Arc::new(SystemClock),
            flights: Flights::default(),
        }
    }

    /// Sets how long entries live that are written without a word about it.
    #[must_use]
    pub fn with_default_expiry(mut self, expiry: Expiry) -> Self {
        self.default_expiry = expiry;
        self
    }

    /// Sets how values are written and read.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the clock by which a [`Lock`](super::Lock) is waited for and lost; the system's unless said. What has expired
    /// is the store's to tell.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A handle to the namespace of these segments, inside this handle's own. The two share no key.
    ///
    /// # Errors
    /// `Invalid` for no segment, or where the namespaces together are too long.
    pub fn namespace(&self, segments: impl IntoKey) -> Result<Self> {
        self.in_namespace(&Namespace::try_from(segments.into_key()?)?)
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

    /// The store, as this handle sees it: keys are those of its namespace.
    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    /// The store's name, capabilities and limits, without I/O.
    pub fn info(&self) -> &StoreInfo {
        self.store.info()
    }

    /// How long entries live that are written without a word about it.
    pub fn default_expiry(&self) -> Expiry {
        self.default_expiry
    }

    /// How values are written and read.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Reads bytes that a handle of the same codec wrote: the value of an [`Entry`](crate::Entry), the payload of a
    /// [`Message`](crate::Message).
    ///
    /// # Errors
    /// `Corrupt` where they do not decode to the type.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["answer"], &42).await?;
    /// let entry = kv.get_entry(["answer"]).await?.unwrap();
    /// assert_eq!(kv.decode::<u8>(&entry.value)?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        self.codec.decode(bytes)
    }

    /// Writes a value as the bytes that [`Kv::decode`] reads.
    ///
    /// # Errors
    /// `Invalid` where the type cannot be written in the handle's codec.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        self.codec.encode(value)
    }

    /// Decodes what was read under `key`.
    pub(super) fn read_as<T: DeserializeOwned>(&self, key: &Key, bytes: &[u8]) -> Result<T> {
        self.codec.decode(bytes).map_err(|error| error.with_operation(Operation::Get).with_key(key))
    }

    /// Encodes what is to be written under `key`.
    pub(super) fn write_as<T: Serialize + ?Sized>(&self, key: &Key, value: &T) -> Result<Bytes> {
        self.codec.encode(value).map_err(|error| error.with_operation(Operation::Set).with_key(key))
    }

    /// The key as the store without the namespace knows it.
    pub(super) fn stored_key(&self, key: &Key) -> Key {
        match &self.namespace {
            Some(namespace) => namespace.wrap(key),
            None => key.clone(),
        }
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.store.info().capabilities.has(capability)
    }
}

/// The store behind one pointer. One that is shared already is not wrapped again, which would cost every call a step.
fn shared(store: impl KvStore) -> Arc<dyn KvStore> {
    let given: &dyn Any = &store;
    match given.downcast_ref::<Arc<dyn KvStore>>() {
        Some(shared) => Arc::clone(shared),
        None => Arc::new(store),
    }
}

/// Every store is a handle in waiting, so that a framework takes `impl Into<Kv>`.
impl<S: KvStore> From<S> for Kv {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}
