//! Delivers messages to the subscribers of every handle of this process that has the same table of the same file open.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use kv_core::hub::{Hub, Inbox, Messages};
use kv_core::{KeyPrefix, Message};

use crate::weak_map::WeakMap;

/// The canonical path of a file, and the name of a table in it.
type TablePath = (PathBuf, String);

/// The id and the hub of each handle on one table.
type Peers = RwLock<Vec<(i64, Hub<Messages>)>>;

/// The peers of each table. A table in memory is not in this map, because it has one handle only.
static PEERS: WeakMap<TablePath, Peers> = WeakMap::new();

/// The hub of one handle, and the hubs of all handles on the same table. Dropping this value ends the handle's
/// subscriptions.
#[derive(Debug)]
pub(crate) struct MessageHub {
    handle_id: i64,
    hub: Hub<Messages>,
    peers: Arc<Peers>,
}

impl MessageHub {
    /// Joins the peers of the table. `None` is a table in memory, which has no peers.
    pub(crate) fn new(handle_id: i64, table: Option<TablePath>) -> Self {
        let (hub, peers) = (Hub::new(), table.map_or_else(Arc::default, |table| PEERS.get(table)));
        peers.write().unwrap_or_else(PoisonError::into_inner).push((handle_id, hub.clone()));
        Self { handle_id, hub, peers }
    }

    /// Notifies the subscribers of every handle. Each subscriber gets the messages of one publisher in order.
    pub(crate) fn notify(&self, message: &Message) {
        for (_, hub) in self.peers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hub.notify(message);
        }
    }

    pub(crate) fn subscribe(&self, channels: KeyPrefix) -> Inbox<Messages> {
        self.hub.subscribe(channels)
    }

    /// Ends this handle's subscriptions. A subscriber still receives the messages in its queue.
    pub(crate) fn close(&self) {
        self.hub.close();
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|(handle_id, _)| *handle_id != self.handle_id);
    }
}

impl Drop for MessageHub {
    fn drop(&mut self) {
        self.close();
    }
}
