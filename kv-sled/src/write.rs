//! Writes of a single key.

use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, IncrementOptions, Key, NewExpiry, Result, SetOptions, SetOutcome, Version,
};

use crate::batch_builder::BatchBuilder;
use crate::evaluate;
use crate::queue::{Queue, Route, Sent};
use crate::request::WriteInfo;

/// The approximate number of bytes that a counter adds to a batch.
const COUNTER_BYTES: usize = 64;

impl Queue {
    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let sent = self.send_set(key, value, options, Route::Any).await?;
        self.response(sent).await
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let sent = self.send_delete(key, options, Route::Any).await?;
        self.response(sent).await
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let owned_key = key.clone();
        self.write(WriteInfo::key(key, None, 0), move |batch| evaluate::touch(batch, &owned_key, expiry)).await
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.state.health.check_write()?;
        options.check(&self.state.info.capabilities)?;
        let (owned_key, options, version) = (key.clone(), options.clone(), Version::random());
        let evaluate =
            move |batch: &mut BatchBuilder<'_>| evaluate::increment(batch, &owned_key, by, version, &options);
        self.write(WriteInfo::key(key, Some(version), COUNTER_BYTES), evaluate).await
    }

    /// Sends a set and does not wait for the response.
    pub(crate) async fn send_set(
        &self,
        key: &Key,
        value: Bytes,
        options: &SetOptions,
        route: Route,
    ) -> Result<Sent<SetOutcome>> {
        self.state.health.check_write()?;
        options.check(&self.state.info.capabilities)?;
        self.state.info.limits.check_value(value.len())?;
        let (owned_key, options, version) = (key.clone(), options.clone(), Version::random());
        let info = WriteInfo::key(key, Some(version), value.len());
        self.send(info, route, move |batch| evaluate::set(batch, &owned_key, &value, version, &options)).await
    }

    /// Sends a delete and does not wait for the response.
    pub(crate) async fn send_delete(
        &self,
        key: &Key,
        options: &DeleteOptions,
        route: Route,
    ) -> Result<Sent<DeleteOutcome>> {
        self.state.health.check_write()?;
        options.check(&self.state.info.capabilities)?;
        let (owned_key, options) = (key.clone(), options.clone());
        self.send(WriteInfo::delete(key), route, move |batch| evaluate::delete(batch, &owned_key, &options)).await
    }
}
