//! Functions that several test programs use.
#![allow(dead_code, reason = "each test uses some of the helpers")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use kv_core::{Bytes, Expiry, Key, KvStore, SetOptions};
use kv_memory::MemoryStore;

pub(crate) fn ttl(seconds: u64) -> SetOptions {
    SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(seconds)))
}

/// Sets a key and asserts that the value was stored.
pub(crate) async fn put(store: &MemoryStore, key: &Key, value: impl Into<Bytes>, options: &SetOptions) {
    assert!(store.set(key, value.into(), options).await.unwrap().is_stored());
}

/// Runs a future on an executor other than tokio.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(std::thread::current()))));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
