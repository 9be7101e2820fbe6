//! A listener that any thread can close and reopen on the same port.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::task::{Poll, Waker};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::wait;

#[derive(Debug)]
pub(super) struct ProxyListener {
    address: SocketAddr,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    listener: Option<TcpListener>,
    waker: Option<Waker>,
}

impl ProxyListener {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let state = State { listener: Some(listen(address)?), waker: None };
        Ok(Self { address, runtime: Handle::current(), state: Mutex::new(state) })
    }

    /// Closes the listener. The kernel resets connections that were not accepted yet.
    pub(super) fn close(&self) {
        if let Some(listener) = self.state.lock().listener.take() {
            // A child that another thread is starting may have a copy of the descriptor, which would keep the port open.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Opens a closed listener again. Binding can fail shortly after the close, although the port is reserved, so
    /// binding is repeated for a second. If binding still fails, connections remain refused.
    pub(super) fn reopen(&self) {
        let mut state = self.state.lock();
        if state.listener.is_none() {
            let _context = self.runtime.enter();
            let bind = || Ok(listen(self.address).map_err(|error| error.to_string()));
            state.listener = wait::until(Duration::from_secs(1), bind).ok();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            state.waker = Some(context.waker().clone());
            state.listener.as_ref().map_or(Poll::Pending, |listener| listener.poll_accept(context))
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
