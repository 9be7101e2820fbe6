//! Concurrent clients.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::failure::Failure;

/// Runs `count` clients as tasks that start together, and returns their results in the order of the clients. The first
/// failure ends all clients.
pub(crate) async fn clients<T, F>(
    cx: &Context,
    count: usize,
    work: impl Fn(Context, usize) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    let start = Arc::new(Barrier::new(count));
    let mut running = JoinSet::new();
    for client in 0..count {
        let (start, work) = (Arc::clone(&start), work(cx.clone(), client));
        running.spawn(async move {
            start.wait().await;
            (client, work.await)
        });
    }
    let mut results = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let (client, result) =
            ended.map_err(|error| Failure::new(format!("a client task of the case panicked: {error}")))?;
        results.insert(client, result?);
    }
    Ok(results.into_values().collect())
}
