//! The handle that applications use.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::capability::Capability;
use crate::clock::{Clock, SystemClock};
use crate::codec::Codec;
use crate::error::{Operation, Result};
use crate::expiry::Expiry;
use crate::flight::{Flights, Writing};
use crate::info::StoreInfo;
use crate::key::{IntoKey, Key, KeyPrefix, Namespace};
use crate::namespaced::Namespaced;
use crate::store::KvStore;

/// A cheap handle over any store, for applications and for frameworks that accept a store.
///
/// The type is not generic, and a clone copies a few pointers. Keys are anything that implements [`IntoKey`]. Values
/// are encoded and decoded through serde with the handle's [`Codec`]. Most writes are builders that do nothing until
/// they are awaited. A call that needs a missing feature of the store fails with `Unsupported`.
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
    /// The store within this handle's namespace.
    pub(super) store: Arc<dyn KvStore>,
    /// The store without the namespace.
    root: Arc<dyn KvStore>,
    namespace: Option<Namespace>,
    pub(super) codec: Codec,
    pub(super) default_expiry: Expiry,
    pub(super) clock: Arc<dyn Clock>,
    /// The running loads of all clones and their namespaces.
    pub(super) loads: Flights<Bytes>,
    /// True if the store has conditions. Every write reads this field.
    has_conditions: bool,
}

impl Kv {
    /// Creates a handle over a store. Values are JSON and never expire by default.
    pub fn new(store: impl KvStore) -> Self {
        let store = into_shared(store);
        Self {
            has_conditions: store.info().capabilities.has(Capability::Conditions),
            root: Arc::clone(&store),
            store,
            namespace: None,
            codec: Codec::Json,
            default_expiry: Expiry::Never,
            clock: Arc::new(SystemClock),
            loads: Flights::default(),
        }
    }

    /// Sets the default expiry, which applies to writes that set no expiry.
    #[must_use]
    pub fn with_default_expiry(mut self, expiry: Expiry) -> Self {
        self.default_expiry = expiry;
        self
    }

    /// Sets the codec of typed values.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the clock that measures the waiting time and the expiry of a [`Lock`](super::Lock). The default is the
    /// system clock. The expiry of entries depends on the clock of the store.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns a handle to a namespace inside this handle's namespace. The two handles share no key.
    ///
    /// # Errors
    /// `Invalid` if there is no segment, or if the combined namespace is too long.
    pub fn namespace(&self, segments: impl IntoKey) -> Result<Self> {
        self.in_namespace(&Namespace::try_from(segments.into_key()?)?)
    }

    /// Returns a handle to a namespace inside this handle's namespace.
    ///
    /// # Errors
    /// `Invalid` if the combined namespace is too long.
    pub fn in_namespace(&self, namespace: &Namespace) -> Result<Self> {
        let namespace = match &self.namespace {
            Some(outer) => outer.nested(namespace)?,
            None => namespace.clone(),
        };
        let store = Arc::new(Namespaced::new(Arc::clone(&self.root), namespace.clone()));
        Ok(Self { store, namespace: Some(namespace), ..self.clone() })
    }

    /// Returns the store within this handle's namespace.
    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    /// Returns the store's name, capabilities and limits, without I/O.
    pub fn info(&self) -> &StoreInfo {
        self.store.info()
    }

    /// Returns the default expiry, which applies to writes that set no expiry.
    pub fn default_expiry(&self) -> Expiry {
        self.default_expiry
    }

    /// Returns the codec of typed values.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes bytes that a handle with the same codec wrote: the value of an [`Entry`](crate::Entry) or the payload of
    /// a [`Message`](crate::Message).
    ///
    /// # Errors
    /// `Corrupt` if the bytes do not decode to the type.
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

    /// Encodes a value to bytes that [`Kv::decode`] reads.
    ///
    /// # Errors
    /// `Invalid` if the handle's codec cannot represent the value.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        self.codec.encode(value)
    }

    /// Decodes the value of `key`.
    pub(super) fn read_as<T: DeserializeOwned>(&self, key: &Key, bytes: &[u8]) -> Result<T> {
        self.codec.decode(bytes).map_err(|error| error.with_operation(Operation::Get).with_key(key))
    }

    /// Encodes a value for `key`.
    pub(super) fn write_as<T: Serialize + ?Sized>(&self, key: &Key, value: &T) -> Result<Bytes> {
        self.codec.encode(value).map_err(|error| error.with_operation(Operation::Set).with_key(key))
    }

    /// Returns the key with the handle's namespace.
    pub(super) fn stored_key(&self, key: &Key) -> Key {
        match &self.namespace {
            Some(namespace) => namespace.wrap(key),
            None => key.clone(),
        }
    }

    /// Prevents running loads of the key from storing their values. Every write calls this method first, and keeps the
    /// result until the write has ended.
    pub(super) async fn fence(&self, key: &Key) -> Option<Writing<Bytes>> {
        if !self.has_conditions {
            return Some(self.loads.write(vec![self.stored_key(key)]).await);
        }
        // A load that begins now does not overwrite the newer value, because it stores only if the key is absent.
        if !self.loads.is_idle() {
            self.loads.fence(&self.stored_key(key)).await;
        }
        None
    }

    /// Fences as [`Kv::fence`] does, for several keys.
    pub(super) fn fence_all<'k, I: IntoIterator<Item = &'k Key>>(
        &self,
        keys: I,
    ) -> impl Future<Output = Option<Writing<Bytes>>> + Send + use<'_, 'k, I> {
        let is_needed = !self.has_conditions || !self.loads.is_idle();
        let stored: Vec<Key> =
            if is_needed { keys.into_iter().map(|key| self.stored_key(key)).collect() } else { Vec::new() };
        async move {
            if !self.has_conditions {
                return Some(self.loads.write(stored).await);
            }
            for key in &stored {
                self.loads.fence(key).await;
            }
            None
        }
    }

    /// Fences as [`Kv::fence`] does, for all keys under a prefix.
    pub(super) async fn fence_prefix(&self, prefix: &KeyPrefix) -> Option<Writing<Bytes>> {
        if !self.has_conditions {
            return Some(self.loads.write_prefix(self.stored_prefix(prefix)).await);
        }
        self.loads.fence_prefix(&self.stored_prefix(prefix)).await;
        None
    }

    /// Returns the prefix with the handle's namespace.
    pub(super) fn stored_prefix(&self, prefix: &KeyPrefix) -> KeyPrefix {
        match &self.namespace {
            Some(namespace) => namespace.wrap_prefix(prefix),
            None => prefix.clone(),
        }
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.store.info().capabilities.has(capability)
    }
}

/// Puts the store behind a shared pointer. A store that is already an `Arc<dyn KvStore>` is not wrapped again. This
/// saves an indirection in every call.
fn into_shared(store: impl KvStore) -> Arc<dyn KvStore> {
    let given: &dyn Any = &store;
    match given.downcast_ref::<Arc<dyn KvStore>>() {
        Some(shared) => Arc::clone(shared),
        None => Arc::new(store),
    }
}

/// Lets a framework take `impl Into<Kv>` for any store.
impl<S: KvStore> From<S> for Kv {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}
