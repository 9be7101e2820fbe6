//! A command and where it belongs.

use redis::Cmd;

/// A command for the master of one slot.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) slot: u16,
    pub(crate) cmd: Cmd,
}

impl Request {
    pub(crate) fn new(slot: u16, cmd: Cmd) -> Self {
        Self { slot, cmd }
    }
}

/// The command holds keys and values.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({})", self.slot)
    }
}
