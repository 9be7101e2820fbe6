//! Reads on the caller's thread.

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::error::read_error;
use crate::liveness::Liveness;
use crate::state::State;
use crate::statement::Statements;

impl State {
    /// Runs a read on this thread.
    ///
    /// If the read finds an expired entry that the writer's open batch has checked, it waits for the end of the batch
    /// and is repeated. [`liveness`](crate::liveness) explains why.
    ///
    /// # Errors
    /// `Closed`, `Unavailable` if the batch does not end within the timeout of a call, and the errors of `read`.
    pub(crate) async fn read<T: Send>(
        &self,
        read: impl Fn(&Connection, &Statements, &mut Liveness<'_>) -> Result<T> + Send + Sync,
    ) -> Result<T> {
        let Self { sql, checked, clock, queue, .. } = self;
        loop {
            let ended = checked.ended_batches();
            let mut liveness = Liveness::new(&**clock);
            let found = self.readers()?.with(|connection| read(connection, sql, &mut liveness))?;
            if checked.may_report_expired(ended, liveness.expired()) {
                return Ok(found);
            }
            drop(liveness);
            if queue.limit(checked.batch_ended_since(ended)).await.is_none() {
                return Err(Error::unavailable(
                    "the writer's batch that checked the same expired entry did not end within the timeout",
                ));
            }
        }
    }

    /// Reads the first page of the file.
    pub(crate) async fn ping(&self) -> Result<()> {
        // A statement such as `SELECT 1` would not read the file.
        self.read(|connection, _, _| connection.query_row("PRAGMA user_version", [], |_| Ok(())).map_err(read_error))
            .await
    }
}
