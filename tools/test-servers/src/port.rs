//! Ports that stay free while their server is down.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::shared::shared_folder;

/// Below the kernel's range for outgoing connections, also with `BUS` added.
const FIRST: u16 = 10_000;
const COUNT: u16 = 12_000;

/// A node of a cluster talks to the others on its port and this.
const BUS: u16 = 10_000;

/// A port that no other test process of this user takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A port on which nobody listens, and nobody on the one `BUS` above it.
    pub(crate) fn reserve() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let locks = shared_folder()?.join("ports");
        std::fs::create_dir_all(&locks)?;
        // Processes begin at different places, so that they seldom try the same.
        let begin = std::process::id().wrapping_mul(61);
        for _ in 0..COUNT {
            let offset = begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % u32::from(COUNT);
            let number = u16::try_from(offset).map_or(FIRST, |offset| FIRST + offset);
            let lock = File::create(locks.join(number.to_string()))?;
            if lock.try_lock().is_ok() && is_free(number) && is_free(number + BUS) {
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
    fn ports_differ_and_a_taken_one_is_left_out() {
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
