//! The sockets that a server listens on.

use std::io;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::token::Token;

/// The listening socket of a server.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener, Token),
    #[cfg(unix)]
    Unix(UnixSocket),
}

/// The reading and the writing half of a connected socket.
pub(super) type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

impl Listener {
    /// Listens on a loopback address. Every session needs the token, because any process and any web page on this
    /// machine can connect.
    ///
    /// # Errors
    /// `InvalidInput` for a listener whose address is not loopback.
    pub fn tcp(listener: TcpListener, token: Token) -> io::Result<Self> {
        if !listener.local_addr()?.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the listener is not on a loopback address"));
        }
        Ok(Self(Kind::Tcp(listener, token)))
    }

    /// Listens on a unix socket. The sessions of this listener need no token, because only processes of the same user
    /// and of root can connect. Replaces a socket file on which no process listens. Must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// `AddrInUse` if a process listens on the path or the file at the path is not a socket, and the errors of the file
    /// system.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        UnixSocket::bind(path.as_ref()).map(|socket| Self(Kind::Unix(socket)))
    }

    /// Returns the token that sessions need. `None` for a unix socket.
    pub(super) fn token(&self) -> Option<Token> {
        match &self.0 {
            Kind::Tcp(_, token) => Some(token.clone()),
            #[cfg(unix)]
            Kind::Unix(_) => None,
        }
    }

    /// Accepts a connection.
    pub(super) async fn accept(&self) -> io::Result<Halves> {
        match &self.0 {
            Kind::Tcp(listener, _) => {
                let (connection, _) = listener.accept().await?;
                // Without this option small responses would be delayed. If setting the option fails, responses are only
                // delayed.
                let _ = connection.set_nodelay(true);
                let (reader, writer) = connection.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
            #[cfg(unix)]
            Kind::Unix(socket) => {
                let (reader, writer) = socket.accept().await?.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
        }
    }
}

/// A unix socket of mode 0600. The drop of this value removes the socket file.
#[cfg(unix)]
#[derive(Debug)]
struct UnixSocket {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    owner: u32,
    /// The device and the inode of the socket file.
    file: (u64, u64),
}

#[cfg(unix)]
impl UnixSocket {
    fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let is_abandoned = || {
            // A datagram probe never waits for the other process. If a process listens, the probe fails with another
            // error, because the types of the sockets differ.
            let probed = std::os::unix::net::UnixDatagram::unbound().and_then(|probe| probe.connect(path));
            probed.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if is_socket && is_abandoned() {
            std::fs::remove_file(path)?;
        }
        let listener = tokio::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), owner: found.uid(), file: (found.dev(), found.ino()) })
    }

    async fn accept(&self) -> io::Result<tokio::net::UnixStream> {
        loop {
            let (connection, _) = self.listener.accept().await?;
            // Another user may have connected before the socket had the mode 0600.
            if connection.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0) {
                return Ok(connection);
            }
        }
    }
}

#[cfg(unix)]
impl Drop for UnixSocket {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;

        // Another server may have replaced the file.
        let is_own = |found: std::fs::Metadata| (found.dev(), found.ino()) == self.file;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            // After an error the file remains, and the next server on this path replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
