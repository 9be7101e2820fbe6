//! The states that a key may have after a kill.

use bytes::Bytes;
use kv_core::Key;

use crate::failure::{Verdict, ensure};

/// The states of one key in the order of its writes. One client writes the key, one call at a time.
#[derive(Debug, Clone)]
pub(super) struct States {
    /// The possible states, the oldest first. `None` is an absent key.
    possible: Vec<Option<Bytes>>,
}

impl Default for States {
    fn default() -> Self {
        Self { possible: vec![None] }
    }
}

impl States {
    /// Adds the state after a write that was sent.
    pub(super) fn attempt(&mut self, written: Option<Bytes>) {
        self.possible.push(written);
    }

    /// Removes all states before the last one, because the last write was acknowledged.
    pub(super) fn settle(&mut self) {
        self.possible.drain(..self.possible.len().saturating_sub(1));
    }

    /// Fails unless `found` is a possible state. After success, `found` is the only possible state.
    pub(super) fn judge(&mut self, key: &Key, found: Option<Bytes>) -> Verdict {
        ensure!(
            self.possible.contains(&found),
            "after the kill, {key} has {}, but its client can only have left {}",
            shown(found.as_ref()),
            self.possible.iter().map(|state| shown(state.as_ref())).collect::<Vec<_>>().join(" or ")
        );
        self.possible = vec![found];
        Ok(())
    }
}

fn shown(state: Option<&Bytes>) -> String {
    match state {
        None => "no entry".to_owned(),
        Some(value) if value.len() <= 60 => format!("{value:?}"),
        Some(value) => format!("{:?}… ({} bytes)", value.slice(..60), value.len()),
    }
}
