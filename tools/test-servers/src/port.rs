//! Ports that stay reserved while their server is down.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::shared::shared_folder;

/// The lowest port. All ports, and all ports plus `BUS_OFFSET`, are below the kernel's range for outgoing connections.
const FIRST: u16 = 10_000;
/// The number of ports.
const COUNT: u16 = 12_000;

/// The cluster bus of a Redis node listens on the port of the node plus this offset.
const BUS_OFFSET: u16 = 10_000;

/// A port that no other test process of this user takes until this value is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port. No process listens on this port, or on the port `BUS_OFFSET` above this port.
    pub(crate) fn reserve() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let locks = shared_folder()?.join("ports");
        std::fs::create_dir_all(&locks)?;
        // Each process starts at a different offset, so that two processes seldom try the same port.
        let start = std::process::id().wrapping_mul(61);
        for _ in 0..COUNT {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % u32::from(COUNT);
            let number = u16::try_from(offset).map_or(FIRST, |offset| FIRST + offset);
            let lock = File::create(locks.join(number.to_string()))?;
            if lock.try_lock().is_ok() && is_free(number) && is_free(number + BUS_OFFSET) {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_differ_and_a_port_in_use_is_not_free() {
        let first = Port::reserve().unwrap();
        let second = Port::reserve().unwrap();
        assert_ne!(first.number(), second.number());
        let lock = File::create(shared_folder().unwrap().join("ports").join(first.number().to_string())).unwrap();
        assert!(lock.try_lock().is_err());
        let listener = TcpListener::bind(first.address()).unwrap();
        assert!(!is_free(first.number()));
        drop(listener);
        assert!(is_free(first.number()));
    }
}
