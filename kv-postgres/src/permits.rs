//! Permits for the connections of the pool, fewer while the server accepts no more connections.
//!
//! A pool asks the server for another connection if all are in use. If the server refuses it, because the limit of the
//! role, the database or the server is reached, the call waits for a connection that exists. The permit of the refused
//! connection is withheld for a while, so that other calls wait as well and do not ask the server in vain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Cause, Fault};

/// The time after a refusal until one more connection is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// One permit a connection.
#[derive(Debug)]
pub(crate) struct Permits {
    semaphore: Semaphore,
    /// The number of permits, withheld ones included.
    max: usize,
    withheld: Mutex<Withheld>,
}

#[derive(Debug)]
struct Withheld {
    permits: usize,
    /// The moment when one of them is given back.
    until: Instant,
}

impl Permits {
    pub(crate) fn new(max: usize) -> Self {
        let withheld = Mutex::new(Withheld { permits: 0, until: Instant::now() });
        Self { semaphore: Semaphore::new(max), max, withheld }
    }

    /// Waits for a permit until the deadline.
    ///
    /// # Errors
    /// A fault that becomes `Capacity`.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Fault> {
        self.give_back();
        if let Ok(permit) = self.semaphore.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout_at(deadline, self.semaphore.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::Before(Cause::NoConnection)),
        }
    }

    /// Withholds the permit of a refused connection. Returns `false` if no other connection exists that the call could
    /// wait for. `size` is the number of connections of the pool.
    pub(crate) fn withhold(&self, permit: SemaphorePermit<'_>, size: usize) -> bool {
        let mut withheld = self.withheld();
        let permits = self.max.saturating_sub(withheld.permits);
        // The holder of another permit is opening a connection or has one.
        let has_others = size > 0 || self.semaphore.available_permits() + 1 < permits;
        if permits <= 1 || !has_others {
            return false;
        }
        permit.forget();
        withheld.permits += 1;
        withheld.until = Instant::now() + PAUSE;
        true
    }

    /// Gives one withheld permit back after the pause.
    fn give_back(&self) {
        let mut withheld = self.withheld();
        if withheld.permits > 0 && withheld.until <= Instant::now() {
            withheld.permits -= 1;
            withheld.until = Instant::now() + PAUSE;
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
    async fn a_refused_connection_costs_a_permit_for_a_while() {
        let permits = Permits::new(3);
        let deadline = || Instant::now() + Duration::from_millis(10);
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(!permits.withhold(permit, 0), "there is no connection to wait for");
        let held = permits.acquire(deadline()).await.unwrap();
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(permits.withhold(permit, 0), "another call is opening a connection");
        let permit = permits.acquire(deadline()).await.unwrap();
        assert!(permits.withhold(permit, 1));
        assert!(matches!(permits.acquire(deadline()).await, Err(Fault::Before(Cause::NoConnection))));
        assert!(!permits.withhold(held, 1), "one permit stays");
        tokio::time::advance(PAUSE).await;
        let _two = (permits.acquire(deadline()).await.unwrap(), permits.acquire(deadline()).await.unwrap());
        assert!(permits.acquire(deadline()).await.is_err());
    }
}
