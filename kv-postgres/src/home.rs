//! Where the store's work is done: on the runtime that opened it, and to its end.
//!
//! A call is driven by its caller, which costs nothing. A caller that drops it half-way leaves the rest to a task, so that a
//! connection never goes back to the pool in the middle of a statement. A caller on another runtime waits for a task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::error::Effect;

/// How many calls may be under way.
const MAX_CALLS: u32 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Home {
    handle: Handle,
    /// Whether the runtime still runs tasks.
    is_alive: Arc<AtomicBool>,
    is_closed: AtomicBool,
    calls: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl Home {
    /// Settles on the runtime of the caller.
    ///
    /// # Errors
    /// `Unavailable` outside of a runtime.
    pub(crate) fn here() -> Result<Self> {
        let handle = Handle::try_current()
            .map_err(|error| Error::unavailable("the store is opened on a tokio runtime").with_source(error))?;
        let is_alive = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = watch::channel(false);
        let sentinel = Sentinel(Arc::clone(&is_alive));
        handle.spawn(async move {
            let _sentinel = sentinel;
            until_stopped(stopped).await;
        });
        let calls = Arc::new(Semaphore::new(MAX_CALLS as usize));
        Ok(Self { handle, is_alive, is_closed: AtomicBool::new(false), calls, stop })
    }

    /// Refuses a call where the store is closed or can do nothing any more.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        if !self.is_alive.load(Ordering::Acquire) {
            return Err(Error::unavailable("the runtime that opened the store has ended"));
        }
        Ok(())
    }

    /// Does the work to its end, whether or not the caller waits for it.
    pub(crate) async fn run<T, F>(&self, effect: Effect, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.check()?;
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        let permit = permit.map_err(|_| Error::capacity("too many calls are under way"))?;
        // A close that came meanwhile waits for this call, or is seen by it.
        self.check()?;
        let work = Box::pin(work);
        if Handle::try_current().is_ok_and(|current| current.id() == self.handle.id()) {
            return Detached { handle: self.handle.clone(), work: Some(work), permit: Some(permit), is_started: false }
                .await;
        }
        let task = self.handle.spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
        task.await.unwrap_or_else(|_| Err(lost(effect)))
    }

    /// Runs a task of the store's own.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// What tells the store's own tasks to end.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Takes no more calls and waits for those under way; `false` where they take too long.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        self.is_closed.store(true, Ordering::Release);
        if !self.is_alive.load(Ordering::Acquire) {
            return true;
        }
        let calls = Arc::clone(&self.calls);
        let drained = async move { calls.acquire_many_owned(MAX_CALLS).await.is_ok() };
        let waited = self.handle.spawn(async move { tokio::time::timeout(limit, drained).await.unwrap_or(false) });
        let is_drained = waited.await.unwrap_or(true);
        self.stop();
        is_drained
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// What a caller gets whose task was taken away by the end of the runtime.
pub(crate) fn lost(effect: Effect) -> Error {
    let message = "the runtime that opened the store has ended";
    match effect {
        Effect::None => Error::unavailable(message),
        Effect::Write(version) => Error::indeterminate(version, message),
    }
}

/// Waits until the store is closed or dropped.
pub(crate) async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct Sentinel(Arc<AtomicBool>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Work that goes on without its caller once it was begun.
struct Detached<T: Send + 'static> {
    handle: Handle,
    work: Option<BoxFuture<'static, Result<T>>>,
    permit: Option<OwnedSemaphorePermit>,
    is_started: bool,
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.is_started = true;
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        self.permit = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (true, Some(work)) = (self.is_started, self.work.take()) {
            let permit = self.permit.take();
            self.handle.spawn(async move {
                // Nobody waits for what came of it.
                let _ = work.await;
                drop(permit);
            });
        }
    }
}
