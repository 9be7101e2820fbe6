//! Pointers to stores are stores.

use std::sync::Arc;

use async_trait::async_trait;

use crate::delegate_store;
use crate::store::KvStore;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KvStore + ?Sized> KvStore for Arc<S> {
    delegate_store!(self.as_ref());
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KvStore + ?Sized> KvStore for Box<S> {
    delegate_store!(self.as_ref());
}
