//! Messages between all handles of this process on one table of one file.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use kv_core::hub::{Hub, Messages};
use kv_core::{KeyPrefix, Message, MessageStream};

use crate::commons::Commons;

/// Where a board hangs: the file's canonical path, and the table.
type Name = (PathBuf, String);

/// The boards of files; those in memory hang nowhere.
static BOARDS: Commons<Name, Board> = Commons::new();

/// Every handle's hub, by the handle's number.
type Board = RwLock<Vec<(i64, Hub<Messages>)>>;

/// One handle's place at the board; its subscriptions end with it.
#[derive(Debug)]
pub(crate) struct Letterbox {
    handle: i64,
    hub: Hub<Messages>,
    board: Arc<Board>,
}

impl Letterbox {
    /// A place at the board of this name, or at one of its own.
    pub(crate) fn new(handle: i64, name: Option<Name>) -> Self {
        let (hub, board) = (Hub::new(), name.map_or_else(Arc::default, |name| BOARDS.get(name)));
        board.write().unwrap_or_else(PoisonError::into_inner).push((handle, hub.clone()));
        Self { handle, hub, board }
    }

    /// Tells every handle's subscribers, those of one publisher in order.
    pub(crate) fn publish(&self, message: &Message) {
        for (_, hub) in self.board.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hub.notify(message);
        }
    }

    pub(crate) fn subscribe(&self, channels: &KeyPrefix) -> MessageStream {
        kv_core::deliver(self.hub.subscribe(channels.clone()))
    }

    /// Ends this handle's subscriptions, behind what waits for them.
    pub(crate) fn close(&self) {
        self.hub.close();
        self.board.write().unwrap_or_else(PoisonError::into_inner).retain(|(handle, _)| *handle != self.handle);
    }
}

impl Drop for Letterbox {
    fn drop(&mut self) {
        self.close();
    }
}
