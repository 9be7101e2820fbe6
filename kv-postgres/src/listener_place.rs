//! The listener's place among the connections of the pool. If the server refuses the listener's connection, the
//! listener takes the place of one of the pool's connections.

use std::sync::Arc;

use kv_core::Result;

use crate::connection::Connections;
use crate::error::read_error;

/// The place of a connection at a server that accepts no more connections. The pool closed the connection and does not
/// replace it until this value is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Connections>);

impl Place {
    /// Waits for a connection of the pool, and closes it. Returns `None` if the pool has no other connection.
    ///
    /// # Errors
    /// `Capacity` if no connection becomes idle within the timeout.
    pub(crate) async fn take(connections: &Arc<Connections>) -> Result<Option<Self>> {
        let connection = connections.get().await.map_err(read_error)?;
        if connections.pool.status().size < 2 {
            return Ok(None);
        }
        let Some(permit) = connection.close() else { return Ok(None) };
        connections.permits.begin_place(permit);
        Ok(Some(Self(Arc::clone(connections))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.permits.end_place();
    }
}
