//! The tokio runtime that opened the store and runs its calls and tasks.
//!
//! A caller on this runtime polls its own call, so that the call needs no task. If the caller drops a call that
//! has already sent data, a task finishes the call, so that the caller cannot interrupt a statement. A caller on
//! another runtime waits for a task. A call that is dropped before it has sent anything is not sent, and leaves no
//! task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use kv_core::adapter::Effect;
use kv_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

/// The maximum number of running calls.
const MAX_CALLS: u32 = 1 << 20;

tokio::task_local! {
    /// True once the current call has sent something to the server.
    static IS_SENT: Arc<AtomicBool>;
}

/// Marks the current call as sent. Has no effect in background tasks.
pub(crate) fn mark_sent() {
    let _ = IS_SENT.try_with(|is_sent| is_sent.store(true, Ordering::Release));
}

/// The runtime handle, the permits of running calls, and the signal that stops the store's tasks.
#[derive(Debug)]
pub(crate) struct StoreRuntime {
    handle: Handle,
    /// False once the runtime has shut down.
    is_alive: Arc<AtomicBool>,
    is_closed: AtomicBool,
    calls: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl StoreRuntime {
    /// Uses the runtime of the caller.
    ///
    /// # Errors
    /// `Unavailable` outside of a runtime.
    pub(crate) fn current() -> Result<Self> {
        let handle = Handle::try_current()
            .map_err(|error| Error::unavailable("the store must be opened on a tokio runtime").with_source(error))?;
        let is_alive = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = watch::channel(false);
        // A runtime that shuts down drops its tasks. Dropping this task drops the guard, which clears `is_alive`.
        let guard = AliveGuard(Arc::clone(&is_alive));
        handle.spawn(async move {
            let _guard = guard;
            until_stopped(stopped).await;
        });
        let calls = Arc::new(Semaphore::new(MAX_CALLS as usize));
        Ok(Self { handle, is_alive, is_closed: AtomicBool::new(false), calls, stop })
    }

    /// Checks that the store is open and that its runtime has not ended.
    ///
    /// # Errors
    /// `Closed` after the store was closed, `Unavailable` after its runtime has ended.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        if !self.is_alive.load(Ordering::Acquire) {
            return Err(Error::unavailable("the runtime that opened the store has ended"));
        }
        Ok(())
    }

    /// Runs `work` to its end, even if the caller drops the returned future after `work` has sent something.
    pub(crate) async fn run<T, F>(&self, effect: Effect, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.check()?;
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        let permit = permit.map_err(|_| Error::capacity("too many running calls"))?;
        // A concurrent `close` either fails this second check, or waits for this call's permit.
        self.check()?;
        let is_sent = Arc::new(AtomicBool::new(false));
        let work = Box::pin(IS_SENT.scope(Arc::clone(&is_sent), work));
        if Handle::try_current().is_ok_and(|current| current.id() == self.handle.id()) {
            return DetachOnDrop { handle: self.handle.clone(), work: Some(work), permit: Some(permit), is_sent }.await;
        }
        let task = self.handle.spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
        let _guard = UnsentGuard { task: task.abort_handle(), is_sent };
        task.await.unwrap_or_else(|_| Err(runtime_ended(effect)))
    }

    /// Spawns a background task of the store.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Returns a receiver of the signal that stops the store's background tasks.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Refuses new calls and waits for running calls. Returns `false` if the running calls do not end within `timeout`.
    pub(crate) async fn close(&self, timeout: Duration) -> bool {
        self.is_closed.store(true, Ordering::Release);
        if !self.is_alive.load(Ordering::Acquire) {
            return true;
        }
        let calls = Arc::clone(&self.calls);
        let drained = async move { calls.acquire_many_owned(MAX_CALLS).await.is_ok() };
        let waited = self.handle.spawn(async move { tokio::time::timeout(timeout, drained).await.unwrap_or(false) });
        let is_drained = waited.await.unwrap_or(true);
        self.stop();
        is_drained
    }

    /// Signals the store's background tasks to end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Returns the error of a call whose task was dropped when the runtime ended.
pub(crate) fn runtime_ended(effect: Effect) -> Error {
    effect.unanswered("the runtime that opened the store has ended")
}

/// Waits until the store is closed or dropped.
pub(crate) async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped. This ends the tasks as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Clears `is_alive` when it is dropped.
struct AliveGuard(Arc<AtomicBool>);

impl Drop for AliveGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Aborts the task of a call when the guard is dropped, unless the call has sent something.
struct UnsentGuard {
    task: AbortHandle,
    is_sent: Arc<AtomicBool>,
}

impl Drop for UnsentGuard {
    fn drop(&mut self) {
        if !self.is_sent.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

/// A call that its caller polls. If the caller drops a call that has already sent data, a task finishes the call.
struct DetachOnDrop<T: Send + 'static> {
    handle: Handle,
    work: Option<BoxFuture<'static, Result<T>>>,
    permit: Option<OwnedSemaphorePermit>,
    is_sent: Arc<AtomicBool>,
}

impl<T: Send + 'static> Future for DetachOnDrop<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        self.permit = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for DetachOnDrop<T> {
    fn drop(&mut self) {
        if let (true, Some(work)) = (self.is_sent.load(Ordering::Acquire), self.work.take()) {
            let permit = self.permit.take();
            self.handle.spawn(async move {
                // The caller has dropped the call, so nothing receives the result.
                let _ = work.await;
                drop(permit);
            });
        }
    }
}
