//! A connection: one session with one request at a time.

use std::fmt;
use std::io;

use futures_util::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::address::Address;
use crate::line::{self, Line};

/// A connection to a server.
pub(super) struct Connection {
    reader: BufReader<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    line: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok(Self::new(Box::new(reader), Box::new(writer)))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let (reader, writer) = tokio::net::UnixStream::connect(path).await?.into_split();
                Ok(Self::new(Box::new(reader), Box::new(writer)))
            }
        }
    }

    fn new(
        reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    ) -> Self {
        Self { reader: BufReader::new(reader), writer, line: Vec::new() }
    }

    /// True if the server has sent nothing since the last response and has not closed the connection.
    pub(super) fn is_idle(&mut self) -> bool {
        // The call is unconstrained, because `fill_buf` is pending in a task that has used up its tokio budget. Then
        // every connection would seem idle.
        tokio::task::unconstrained(self.reader.fill_buf()).now_or_never().is_none()
    }

    /// Sends a request.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped future may have sent a part of the line. Drop the connection after a dropped future.
    pub(super) async fn send(&mut self, request: &str) -> io::Result<()> {
        self.writer.write_all(request.as_bytes()).await?;
        self.writer.flush().await
    }

    /// Receives the next line, of at most `max_bytes`.
    ///
    /// # Cancel safety
    /// Not cancel safe, like [`Connection::send`].
    pub(super) async fn receive(&mut self, max_bytes: usize) -> io::Result<&[u8]> {
        match line::read_async(&mut self.reader, &mut self.line, max_bytes).await? {
            Line::Read => Ok(&self.line),
            Line::End | Line::Unterminated => Err(io::ErrorKind::UnexpectedEof.into()),
            Line::TooLong => Err(io::Error::other(format!("the response has more than {max_bytes} bytes"))),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
