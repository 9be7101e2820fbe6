//! Messages between all handles of this process on one table of one file.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use kv_core::hub::{Hub, Messages};
use kv_core::{KeyPrefix, Message, MessageStream};

use crate::weak_map::WeakMap;

/// The canonical path of a file, and a table in it.
type TablePath = (PathBuf, String);

/// The hub of every handle on one table, by the handle's number.
type Peers = RwLock<Vec<(i64, Hub<Messages>)>>;

/// The peers of each table. A table in memory has one handle and is not in this map.
static PEERS: WeakMap<TablePath, Peers> = WeakMap::new();

/// The hub of one handle, and those of its peers. The handle's subscriptions end when it is dropped.
#[derive(Debug)]
pub(crate) struct MessageHub {
    handle: i64,
    hub: Hub<Messages>,
    peers: Arc<Peers>,
}

impl MessageHub {
    /// Joins the peers of the table, or stays alone for `None`.
    pub(crate) fn new(handle: i64, table: Option<TablePath>) -> Self {
        let (hub, peers) = (Hub::new(), table.map_or_else(Arc::default, |table| PEERS.get(table)));
        peers.write().unwrap_or_else(PoisonError::into_inner).push((handle, hub.clone()));
        Self { handle, hub, peers }
    }

    /// Notifies the subscribers of every handle. The messages of one publisher keep their order.
    pub(crate) fn publish(&self, message: &Message) {
        for (_, hub) in self.peers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hub.notify(message);
        }
    }

    pub(crate) fn subscribe(&self, channels: &KeyPrefix) -> MessageStream {
        kv_core::deliver(self.hub.subscribe(channels.clone()))
    }

    /// Ends this handle's subscriptions, after their pending messages.
    pub(crate) fn close(&self) {
        self.hub.close();
        self.peers.write().unwrap_or_else(PoisonError::into_inner).retain(|(handle, _)| *handle != self.handle);
    }
}

impl Drop for MessageHub {
    fn drop(&mut self) {
        self.close();
    }
}
