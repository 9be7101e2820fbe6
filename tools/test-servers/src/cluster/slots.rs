//! A slot goes from one master to another while clients are at work.

use std::io;

use super::RedisCluster;

/// Keys of any bytes, which a command line could not carry.
const MOVE: &str = "local keys = redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[1], ARGV[3]) \
    if #keys > 0 then redis.call('MIGRATE', '127.0.0.1', ARGV[2], '', 0, 5000, 'KEYS', unpack(keys)) end \
    return #keys";

const AT_ONCE: usize = 100;

impl RedisCluster {
    /// Gives a slot with its keys to another master, as a resharding does.
    ///
    /// # Errors
    /// `from` is not its master, or `to` is none.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.begin_move(slot, from, to)?;
        self.finish_move(slot, from, to)
    }

    /// From now on the old master sends clients to the new one (`ASK`) for every key that it does not have.
    ///
    /// # Errors
    /// `from` is not its master, or `to` is none.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let text = slot.to_string();
        self.node(to)?.cli(&["CLUSTER", "SETSLOT", &text, "IMPORTING", self.id(from)?])?;
        self.node(from)?.cli(&["CLUSTER", "SETSLOT", &text, "MIGRATING", self.id(to)?]).map(drop)
    }

    /// Moves up to `count` of the slot's keys, between begin and finish. Gives how many there were.
    ///
    /// # Errors
    /// The move was not begun.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize, count: usize) -> io::Result<usize> {
        let (slot, port, count) = (slot.to_string(), self.node(to)?.port().to_string(), count.to_string());
        let moved = self.node(from)?.cli(&["EVAL", MOVE, "0", &slot, &port, &count])?;
        moved.parse().map_err(io::Error::other)
    }

    /// Moves the keys that are left, and tells all masters who owns the slot now.
    ///
    /// # Errors
    /// The move was not begun.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        while self.move_keys(slot, from, to, AT_ONCE)? > 0 {}
        let (text, owner) = (slot.to_string(), self.id(to)?);
        // The new owner first: a client that the old one sends on must not be sent back.
        for index in [to, from] {
            self.node(index)?.cli(&["CLUSTER", "SETSLOT", &text, "NODE", owner])?;
        }
        for (index, node) in self.living().filter(|(index, _)| ![to, from].contains(index)) {
            // Replicas refuse to be told, and hear of it from their masters.
            if node.cli(&["ROLE"])?.starts_with("master") {
                self.node(index)?.cli(&["CLUSTER", "SETSLOT", &text, "NODE", owner])?;
            }
        }
        Ok(())
    }
}
