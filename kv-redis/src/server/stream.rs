//! The socket of a connection, with bounds on the replies of the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use redis::io::tcp::{TcpSettings, socket2};
use redis::{ConnectionAddr, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::server::endpoint::Endpoint;
use crate::server::reply_bounds::ReplyBounds;

/// A socket that fails if the server sends a reply beyond the bounds.
#[derive(Debug)]
pub(crate) struct BoundedStream {
    socket: Socket,
    bounds: ReplyBounds,
    has_refused: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl BoundedStream {
    /// Connects to a server. Returns `None` for a [`redis::Client`] that has its own TLS settings: only the driver can
    /// read these settings, so the driver must connect. The driver's connection has no bounds.
    pub(crate) async fn connect(endpoint: &Endpoint, max_value_bytes: u64) -> Result<Option<Self>, RedisError> {
        let settings = endpoint.info().tcp_settings();
        let socket = match (endpoint.info().addr(), endpoint.tls()) {
            (ConnectionAddr::Tcp(host, port), _) => Socket::Tcp(connect_tcp(host, *port, settings).await?),
            (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let stream = connect_tcp(host, *port, settings).await?;
                Socket::Tls(Box::new(tls.connect(name, stream).await?))
            }
            (ConnectionAddr::Unix(path), _) => Socket::Unix(UnixStream::connect(path).await?),
            _ => return Ok(None),
        };
        Ok(Some(Self { socket, bounds: ReplyBounds::new(max_value_bytes), has_refused: Arc::default() }))
    }
}

impl BoundedStream {
    /// Returns a flag that is true after the bounds have refused a reply.
    pub(crate) fn has_refused(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_refused)
    }
}

async fn connect_tcp(host: &str, port: u16, settings: &TcpSettings) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    apply(settings, &stream)?;
    Ok(stream)
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
        let Self { socket, bounds, has_refused } = self.get_mut();
        let before = buf.filled().len();
        ready!(match socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        let received = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(bounds.follow(received).map_err(|bad| {
            has_refused.store(true, Ordering::Release);
            io::Error::new(io::ErrorKind::InvalidData, bad)
        }))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, bounds, .. } = self.get_mut();
        let written = ready!(match socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        })?;
        bounds.follow_sent(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
