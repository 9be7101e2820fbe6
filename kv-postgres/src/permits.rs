//! Permits for the connections of the pool. While the server accepts no more connections, there are fewer permits.
//!
//! If all connections are in use, the pool opens another connection. The server refuses this connection if the limit of
//! the role, of the database or of the server is reached. In this case, the call waits for an existing connection. The
//! permit of the refused connection is withheld for a while, so that other calls also wait instead of trying to
//! connect.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::Result;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Cause, Failure};

/// The delay between a refused connection and the next attempt to open another connection.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// One permit for each connection of the pool.
#[derive(Debug)]
pub(crate) struct Permits {
    semaphore: Semaphore,
    /// The number of all permits, including withheld permits.
    max: usize,
    withheld: Mutex<Withheld>,
}

#[derive(Debug)]
struct Withheld {
    /// The number of withheld permits.
    count: usize,
    /// The number of permits that places of the listener hold.
    places: usize,
    /// The moment at which one of the withheld permits may be given back.
    until: Instant,
}

impl Permits {
    pub(crate) fn new(max: usize) -> Self {
        let withheld = Mutex::new(Withheld { count: 0, places: 0, until: Instant::now() });
        Self { semaphore: Semaphore::new(max), max, withheld }
    }

    /// Waits for a permit until the deadline.
    ///
    /// # Errors
    /// [`Cause::NoConnection`], which becomes a `Capacity` error.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        self.give_back();
        if let Ok(permit) = self.semaphore.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout_at(deadline, self.semaphore.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Failure::NotSent(Cause::NoConnection)),
        }
    }

    /// Withholds the permit of a refused connection. Returns `false` if there is no other connection that the call
    /// could wait for. `size` is the number of connections in the pool.
    pub(crate) fn withhold(&self, permit: SemaphorePermit<'_>, size: usize) -> bool {
        let mut withheld = self.withheld();
        let permits = self.max.saturating_sub(withheld.count + withheld.places);
        // The holder of another permit has a connection or is opening one.
        let has_others = size > 0 || self.semaphore.available_permits() + 1 < permits;
        if permits <= 1 || !has_others {
            return false;
        }
        permit.forget();
        withheld.count += 1;
        withheld.until = Instant::now() + RETRY_DELAY;
        true
    }

    /// Takes a permit out of use until [`Permits::end_place`].
    pub(crate) fn begin_place(&self, permit: SemaphorePermit<'_>) {
        permit.forget();
        self.withheld().places += 1;
    }

    pub(crate) fn end_place(&self) {
        self.withheld().places -= 1;
        self.semaphore.add_permits(1);
    }

    /// Gives one withheld permit back if the delay of the permit is over.
    fn give_back(&self) {
        let mut withheld = self.withheld();
        if withheld.count > 0 && withheld.until <= Instant::now() {
            withheld.count -= 1;
            withheld.until = Instant::now() + RETRY_DELAY;
            self.semaphore.add_permits(1);
        }
    }

    fn withheld(&self) -> MutexGuard<'_, Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_permit_of_a_refused_connection_is_withheld_for_a_while() {
        let permits = Permits::new(3);
        let deadline = || Instant::now() + Duration::from_millis(10);
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(!permits.withhold(permit, 0), "there is no connection to wait for");
        let held = permits.acquire(deadline()).await.unwrap();
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(permits.withhold(permit, 0), "another call is opening a connection");
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(permits.withhold(permit, 1));
        assert!(matches!(permits.acquire(deadline()).await, Err(Failure::NotSent(Cause::NoConnection))));
        assert!(!permits.withhold(held, 1), "one permit stays");
        tokio::time::advance(RETRY_DELAY).await;
        let _two = (permits.acquire(deadline()).await.unwrap(), permits.acquire(deadline()).await.unwrap());
        assert!(permits.acquire(deadline()).await.is_err());
    }
}
