//! A connection: one session with one request at a time.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::line::{self, Line};

#[derive(Debug)]
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer, line: Vec::new() })
    }

    /// True if the server has sent nothing since the last response and has not closed the connection.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.reader.get_ref().try_read(&mut [0]);
        self.reader.buffer().is_empty() && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped future may have sent part of a line. Drop the connection then.
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
