//! Stores in child processes that cases kill.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, KvStore, Result, SystemClock};

use crate::fresh::Fresh;
use crate::link::blocking;
use crate::process::{self, ChildProcess};
use crate::recorder::Recorder;

/// A store that is open in a child process.
pub(crate) struct MortalStore<S = Recorder> {
    store: S,
    child: Arc<ChildProcess>,
}

impl MortalStore<Arc<dyn KvStore>> {
    /// Starts a child for the suite of this name, and opens the store there.
    pub(crate) async fn open(suite: &str, fresh: &Fresh) -> Result<Self> {
        let (child, response) = request(suite, fresh).await?;
        Ok(Self { store: Arc::new(process::connect(&response.await?).await?), child })
    }

    /// Kills a child this long after it was asked to open the store.
    pub(crate) async fn kill_while_opening(suite: &str, fresh: &Fresh, after: Duration) -> Result<()> {
        let (child, response) = request(suite, fresh).await?;
        let response = tokio::spawn(response);
        SystemClock.sleep(after).await;
        blocking(move || {
            child.kill();
            Ok(())
        })
        .await?;
        // The response may be complete, partial or empty.
        let _ = response.await;
        Ok(())
    }

    /// The same child, with its store wrapped.
    pub(crate) fn map<S>(self, wrap: impl FnOnce(Arc<dyn KvStore>) -> S) -> MortalStore<S> {
        MortalStore { store: wrap(self.store), child: self.child }
    }
}

impl<S> MortalStore<S> {
    /// The store, whose calls run in the child.
    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// Kills the child (`kill -9`) and waits until it has ended. Calls that have no response yet then fail.
    pub(crate) fn kill(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let child = Arc::clone(&self.child);
        blocking(move || {
            child.kill();
            Ok(())
        })
    }
}

/// Starts a child, and returns a future with its response to the request to open the store.
async fn request(
    suite: &str,
    fresh: &Fresh,
) -> Result<(Arc<ChildProcess>, impl Future<Output = Result<String>> + Send + 'static)> {
    let (suite, name) = (suite.to_owned(), fresh.name().to_owned());
    let child = blocking(move || -> io::Result<_> { Ok(Arc::new(ChildProcess::start(&suite, "")?)) }).await?;
    let same = Arc::clone(&child);
    Ok((child, blocking(move || same.request(&name))))
}
