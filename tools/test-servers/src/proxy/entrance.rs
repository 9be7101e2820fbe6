//! A listener that can be closed and opened again on its port, at once and from any thread.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::wait;

#[derive(Debug)]
pub(super) struct Entrance {
    address: SocketAddr,
    runtime: Handle,
    door: Mutex<Door>,
}

#[derive(Debug)]
struct Door {
    listener: Option<TcpListener>,
    waiting: Option<Waker>,
}

impl Entrance {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let door = Door { listener: Some(listen(address)?), waiting: None };
        Ok(Self { address, runtime: Handle::current(), door: Mutex::new(door) })
    }

    /// Connections that were not accepted yet are reset by the kernel.
    pub(super) fn close(&self) {
        self.door.lock().listener = None;
    }

    /// The port is reserved, so that only the closed listener's last traces can be in the way. Where they stay, connections go on
    /// being refused.
    pub(super) fn reopen(&self) {
        let mut door = self.door.lock();
        if door.listener.is_none() {
            let _inside = self.runtime.enter();
            let again = || Ok(listen(self.address).map_err(|error| error.to_string()));
            door.listener = wait::until(Duration::from_secs(1), again).ok();
            if let Some(waiting) = door.waiting.take() {
                waiting.wake();
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| {
            let mut door = self.door.lock();
            door.waiting = Some(context.waker().clone());
            door.listener.as_ref().map_or(Poll::Pending, |listener| listener.poll_accept(context))
        })
        .await
        .map(|(stream, _)| stream)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
