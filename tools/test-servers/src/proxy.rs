//! A TCP proxy that fails on command.

mod connection;
mod entrance;
mod plan;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::connection::serve;
use self::entrance::Entrance;
use self::plan::{Ending, Mode, Plan};
use crate::port::Port;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends.
    ToServer,
    /// What the server answers.
    ToClient,
}

/// Stands in front of an address, in the runtime in which it was started. It passes everything until it is told otherwise.
///
/// [`pass`](Self::pass), [`delay`](Self::delay), [`black_hole`](Self::black_hole) and [`refuse`](Self::refuse) replace each other.
/// Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    plan: Arc<Plan>,
    entrance: Arc<Entrance>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own of the loopback.
    ///
    /// # Errors
    /// No port is free.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let port = Port::reserve()?;
        let plan = Arc::new(Plan::default());
        let entrance = Arc::new(Entrance::open(port.address())?);
        let task = tokio::spawn(serve(Arc::clone(&entrance), target, Arc::clone(&plan)));
        Ok(Self { port, plan, entrance, task })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Where clients connect, on `127.0.0.1` and so `localhost`.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Passes bytes on as they come, also those that were to be cut. A connection that has lost bytes in a [`black_hole`](Self::black_hole) stays lost: going on
    /// in the middle of a stream is what no network does.
    pub fn pass(&self) {
        self.plan.forget_endings();
        self.plan.set_mode(Mode::Pass);
        self.entrance.reopen();
    }

    /// Passes bytes on after this time, each way.
    pub fn delay(&self, time: Duration) {
        self.plan.set_mode(Mode::Delay(time));
        self.entrance.reopen();
    }

    /// Takes bytes of old and new connections and passes none on; nothing is closed.
    pub fn black_hole(&self) {
        self.plan.set_mode(Mode::BlackHole);
        self.entrance.reopen();
    }

    /// Refuses new connections, as a host does on which nobody listens. Established ones pass.
    pub fn refuse(&self) {
        self.plan.set_mode(Mode::Pass);
        self.entrance.close();
    }

    /// Closes the connection that brings the n-th byte from now on in this direction, after that byte was delivered. With 0 it is the
    /// first connection that brings anything, and nothing is delivered. Once: later traffic passes.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.plan.end_after(direction, bytes, Ending::Close);
    }

    /// As [`cut_after`](Self::cut_after), but both sides see a reset, which may overtake what was delivered.
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        self.plan.end_after(direction, bytes, Ending::Reset);
    }

    /// Closes all established connections.
    pub fn close_all(&self) {
        self.plan.close_all();
    }

    /// How many bytes were delivered in this direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.plan.bytes(direction)
    }

    /// How many connections were accepted since the start.
    pub fn connections(&self) -> u64 {
        self.plan.connections()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.entrance.close();
    }
}
