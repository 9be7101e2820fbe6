//! The socket of a connection, with bounds on the replies of the server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use redis::io::tcp::{TcpSettings, socket2};
use redis::{ConnectionAddr, RedisError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::server::reply_bounds::ReplyBounds;

/// A socket that fails if the server sends a reply beyond the bounds.
#[derive(Debug)]
pub(crate) struct BoundedStream {
    socket: Socket,
    bounds: ReplyBounds,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl BoundedStream {
    /// Connects to an address. Returns `None` for an address with TLS. Only the driver can read the TLS settings of its
    /// client, so the driver must connect there. Its connection has no bounds, but the server's certificate is checked.
    pub(crate) async fn connect(
        address: &ConnectionAddr,
        settings: &TcpSettings,
        max_value: u64,
    ) -> Result<Option<Self>, RedisError> {
        let socket = match address {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                apply(settings, &stream)?;
                Socket::Tcp(stream)
            }
            ConnectionAddr::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            _ => return Ok(None),
        };
        Ok(Some(Self { socket, bounds: ReplyBounds::new(max_value) }))
    }
}

/// Applies the TCP settings of the driver's client to a connection.
fn apply(settings: &TcpSettings, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(settings.nodelay())?;
    let socket = socket2::SockRef::from(stream);
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(timeout) = settings.user_timeout() {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

impl AsyncRead for BoundedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, bounds } = self.get_mut();
        let before = buf.filled().len();
        ready!(match socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        let received = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(bounds.follow(received).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad)))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
