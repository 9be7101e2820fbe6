//! A TCP proxy that fails on command.

mod connection;
mod control;
mod listener;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::connection::serve;
use self::control::{Control, Disconnect, Mode};
use self::listener::ProxyListener;
use crate::port::Port;

/// The direction of bytes through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// A proxy in front of an address. The proxy runs in the runtime that started it, and forwards everything until a
/// method changes its behaviour.
///
/// Each call of [`pass`](Self::pass), [`delay`](Self::delay), [`black_hole`](Self::black_hole) or
/// [`refuse`](Self::refuse) ends the effect of the previous call. Dropping the proxy closes its connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    control: Arc<Control>,
    listener: Arc<ProxyListener>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on its own port of the loopback.
    ///
    /// # Errors
    /// No port is free.
    ///
    /// # Panics
    /// The caller is outside of a tokio runtime.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let port = Port::reserve()?;
        let control = Arc::new(Control::default());
        let listener = Arc::new(ProxyListener::open(port.address())?);
        let task = tokio::spawn(serve(Arc::clone(&listener), target, Arc::clone(&control)));
        Ok(Self { port, control, listener, task })
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Returns the port to which clients connect, on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Forwards bytes at once, and cancels a pending [`cut_after`](Self::cut_after) or
    /// [`reset_after`](Self::reset_after). A connection that lost bytes in a [`black_hole`](Self::black_hole) stays
    /// silent, because no network continues in the middle of a stream.
    pub fn pass(&self) {
        self.control.clear_disconnects();
        self.control.set_mode(Mode::Pass);
        self.listener.reopen();
    }

    /// Delays bytes by this time in each direction.
    pub fn delay(&self, time: Duration) {
        self.control.set_mode(Mode::Delay(time));
        self.listener.reopen();
    }

    /// Reads and discards the bytes of old and new connections. No connection is closed.
    pub fn black_hole(&self) {
        self.control.set_mode(Mode::BlackHole);
        self.listener.reopen();
    }

    /// Refuses new connections, as a host without a listener does. The bytes of established connections are forwarded.
    pub fn refuse(&self) {
        self.control.set_mode(Mode::Pass);
        self.listener.close();
    }

    /// Closes the connection that carries the n-th byte of this direction from now on, after delivering that byte. With
    /// 0, the first connection that carries a byte is closed, and that byte is not delivered. Only one connection is
    /// closed. Later bytes are forwarded.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.control.disconnect_after(direction, bytes, Disconnect::Close);
    }

    /// Cuts as [`cut_after`](Self::cut_after) does, but both sides get a TCP reset, which may overtake delivered bytes.
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        self.control.disconnect_after(direction, bytes, Disconnect::Reset);
    }

    /// Closes all established connections.
    pub fn close_all(&self) {
        self.control.close_all();
    }

    /// Returns the number of bytes that were delivered in this direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.control.bytes(direction)
    }

    /// Returns the number of connections that were accepted since the start.
    pub fn connections(&self) -> u64 {
        self.control.connections()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.listener.close();
    }
}
