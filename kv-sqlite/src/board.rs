//! Messages between all handles of this process on one table of one file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use kv_core::hub::{Hub, Letters};
use kv_core::{KeyPrefix, Message, MessageStream};

/// Where a board hangs: the file's canonical path, and the table.
type Name = (PathBuf, String);

/// The boards of files; those in memory hang nowhere.
static BOARDS: Mutex<Option<HashMap<Name, Weak<Board>>>> = Mutex::new(None);

/// Every handle's hub, by the handle's number.
type Board = RwLock<Vec<(i64, Hub<Letters>)>>;

/// One handle's place at the board; its subscriptions end with it.
#[derive(Debug)]
pub(crate) struct Letterbox {
    handle: i64,
    hub: Hub<Letters>,
    board: Arc<Board>,
}

impl Letterbox {
    /// A place at the board of this name, or at one of its own.
    pub(crate) fn new(handle: i64, name: Option<Name>) -> Self {
        let (hub, board) = (Hub::new(), name.map_or_else(Arc::default, board));
        board.write().unwrap_or_else(PoisonError::into_inner).push((handle, hub.clone()));
        Self { handle, hub, board }
    }

    /// Tells every handle's subscribers, those of one publisher in order.
    pub(crate) fn publish(&self, message: &Message) {
        for (_, hub) in self.board.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hub.tell(message);
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

fn board(name: Name) -> Arc<Board> {
    let mut boards = BOARDS.lock().unwrap_or_else(PoisonError::into_inner);
    let boards = boards.get_or_insert_default();
    boards.retain(|_, board| board.strong_count() > 0);
    if let Some(board) = boards.get(&name).and_then(Weak::upgrade) {
        return board;
    }
    let board = Arc::default();
    boards.insert(name, Arc::downgrade(&board));
    board
}
