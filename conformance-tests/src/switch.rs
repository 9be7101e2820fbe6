//! Conditions around a store that a case begins and ends: an outage, a full disk.

use std::future::Future;
use std::sync::Arc;

use kv_core::{BoxFuture, Result};

use crate::fresh::Fresh;

/// Begins or ends the condition for the store that was opened with this [`Fresh`].
type Act = dyn Fn(Fresh) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// The functions that begin and end a condition.
#[derive(Clone)]
pub(crate) struct Switch {
    begin: Arc<Act>,
    end: Arc<Act>,
}

impl Switch {
    pub(crate) fn new<B, E>(
        begin: impl Fn(Fresh) -> B + Send + Sync + 'static,
        end: impl Fn(Fresh) -> E + Send + Sync + 'static,
    ) -> Self
    where
        B: Future<Output = Result<()>> + Send + 'static,
        E: Future<Output = Result<()>> + Send + 'static,
    {
        Self { begin: Arc::new(move |fresh| Box::pin(begin(fresh))), end: Arc::new(move |fresh| Box::pin(end(fresh))) }
    }

    pub(crate) async fn begin(&self, fresh: &Fresh) -> Result<()> {
        (self.begin)(fresh.clone()).await
    }

    pub(crate) async fn end(&self, fresh: &Fresh) -> Result<()> {
        (self.end)(fresh.clone()).await
    }
}
