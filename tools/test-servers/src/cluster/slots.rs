//! Migration of a slot from one master to another while clients run.

use std::io;

use super::RedisCluster;

/// A script that migrates up to `ARGV[3]` keys. The script reads the keys itself, because keys may contain bytes that a
/// command line cannot contain.
const MIGRATE_SCRIPT: &str = "local keys = redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[1], ARGV[3]) \
    if #keys > 0 then redis.call('MIGRATE', '127.0.0.1', ARGV[2], '', 0, 5000, 'KEYS', unpack(keys)) end \
    return #keys";

/// The maximum number of keys in one script call.
const BATCH_KEYS: usize = 100;

impl RedisCluster {
    /// Moves a slot with its keys to another master, as resharding does.
    ///
    /// # Errors
    /// `from` does not own the slot, or `to` is not a master.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.begin_move(slot, from, to)?;
        self.finish_move(slot, from, to)
    }

    /// Begins a move. From now on, the old master redirects clients with `ASK` for every key of the slot that it does
    /// not have.
    ///
    /// # Errors
    /// `from` does not own the slot, or `to` is not a master.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let text = slot.to_string();
        self.node(to)?.cli(&["CLUSTER", "SETSLOT", &text, "IMPORTING", self.id(from)?])?;
        self.node(from)?.cli(&["CLUSTER", "SETSLOT", &text, "MIGRATING", self.id(to)?]).map(drop)
    }

    /// Moves up to `count` keys of the slot, between `begin_move` and `finish_move`. Returns the number of moved keys.
    ///
    /// # Errors
    /// The move was not begun.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, count: usize) -> io::Result<usize> {
        let (slot, port, count) = (slot.to_string(), self.node(to)?.port().to_string(), count.to_string());
        let moved = self.node(from)?.cli(&["EVAL", MIGRATE_SCRIPT, "0", &slot, &port, &count])?;
        moved.parse().map_err(io::Error::other)
    }

    /// Moves the remaining keys and announces the new owner to all masters.
    ///
    /// # Errors
    /// The move was not begun.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        while self.move_keys(slot, from, to, BATCH_KEYS)? > 0 {}
        let (text, owner) = (slot.to_string(), self.id(to)?);
        // The new owner gets the command first, because it must not redirect a client back to the old owner.
        for index in [to, from] {
            self.node(index)?.cli(&["CLUSTER", "SETSLOT", &text, "NODE", owner])?;
        }
        for (index, node) in self.running().filter(|(index, _)| ![to, from].contains(index)) {
            // Replicas reject `SETSLOT` and learn the owner from their masters.
            if node.cli(&["ROLE"])?.starts_with("master") {
                self.node(index)?.cli(&["CLUSTER", "SETSLOT", &text, "NODE", owner])?;
            }
        }
        Ok(())
    }
}
