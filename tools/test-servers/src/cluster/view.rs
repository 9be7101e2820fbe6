//! The state of the cluster as one node knows it.

use std::io;

use crate::redis::Redis;

/// The parsed response to `CLUSTER NODES`.
#[derive(Debug)]
pub(super) struct View(Vec<Member>);

#[derive(Debug)]
struct Member {
    id: String,
    port: Option<u16>,
    is_master: bool,
    /// True if the node is connected and has no failure or handshake flag.
    is_healthy: bool,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

/// The owner of a slot and its configuration epoch.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) id: String,
    pub(super) epoch: u64,
}

impl View {
    pub(super) fn of(node: &Redis) -> io::Result<Self> {
        let text = node.cli(&["CLUSTER", "NODES"])?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("invalid response to CLUSTER NODES: {text}")))
    }

    /// Parses lines of `<id> <ip:port@bus,name> <flags> <master> <ping> <pong> <epoch> <link> <slot>...`. Slots in
    /// brackets are skipped, because they are being moved.
    fn parse(text: &str) -> Option<Self> {
        let member = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let &[id, address, flags, _master, _ping, _pong, epoch, link, ref slots @ ..] = fields.as_slice() else {
                return None;
            };
            let port = address.split_once('@').and_then(|(host, _)| host.rsplit_once(':')).map(|(_, port)| port);
            let flags: Vec<&str> = flags.split(',').collect();
            let bad = ["fail", "fail?", "handshake", "noaddr"];
            Some(Member {
                id: id.to_owned(),
                port: port.and_then(|port| port.parse().ok()),
                is_master: flags.contains(&"master"),
                is_healthy: link == "connected" && !flags.iter().any(|flag| bad.contains(flag)),
                epoch: epoch.parse().ok()?,
                slots: slots.iter().filter(|slot| !slot.starts_with('[')).filter_map(|slot| range(slot)).collect(),
            })
        };
        text.lines().map(member).collect::<Option<Vec<_>>>().map(Self)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<Owner> {
        let has = |member: &&Member| member.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        let member = self.0.iter().filter(|member| member.is_master).find(has)?;
        Some(Owner { id: member.id.clone(), epoch: member.epoch })
    }

    pub(super) fn first_slot_of(&self, id: &str) -> Option<u16> {
        let member = self.0.iter().find(|member| member.id == id)?;
        member.slots.first().map(|(first, _)| *first)
    }

    pub(super) fn port_of(&self, id: &str) -> Option<u16> {
        self.0.iter().find(|member| member.id == id)?.port
    }

    /// True if all `members` nodes are known and healthy, and exactly `masters` masters exist and own slots.
    pub(super) fn is_complete(&self, members: usize, masters: usize) -> bool {
        let with_slots = self.0.iter().filter(|member| member.is_master && !member.slots.is_empty()).count();
        let without = self.0.iter().filter(|member| member.is_master && member.slots.is_empty()).count();
        self.0.len() == members
            && self.0.iter().all(|member| member.is_healthy)
            && (with_slots, without) == (masters, 0)
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
aa 127.0.0.1:10001@20001 myself,master - 0 0 1 connected 0-99 101 [100->-bb]
bb 127.0.0.1:10002@20002,host master - 0 5 7 connected 100 102-16383
cc 127.0.0.1:10003@20003 slave bb 0 5 7 connected
dd 127.0.0.1:10004@20004 master,fail - 0 5 3 disconnected";

    #[test]
    fn owners_ports_and_health_are_read() {
        let view = View::parse(NODES).unwrap();
        let owner = |slot| view.owner(slot).map(|owner| (owner.id, owner.epoch));
        assert_eq!(owner(0), Some(("aa".to_owned(), 1)));
        assert_eq!(owner(101), Some(("aa".to_owned(), 1)));
        assert_eq!(owner(100), Some(("bb".to_owned(), 7)));
        assert_eq!(view.first_slot_of("bb"), Some(100));
        assert_eq!(view.first_slot_of("cc"), None);
        assert_eq!(view.port_of("cc"), Some(10003));
        assert!(!view.is_complete(4, 2));
        let three = View::parse(NODES.rsplit_once('\n').unwrap().0).unwrap();
        assert!(three.is_complete(3, 2));
        assert!(!three.is_complete(4, 2) && !three.is_complete(3, 3));
        assert!(View::parse("invalid").is_none());
    }
}
