//! One connection: a session that is asked one thing after another.

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

    /// Whether nothing has come since the last answer, not even the end.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.reader.get_ref().try_read(&mut [0]);
        self.reader.buffer().is_empty() && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request.
    ///
    /// # Cancel safety
    /// A dropped future may have sent half a line: the connection is of no use then.
    pub(super) async fn send(&mut self, request: &str) -> io::Result<()> {
        self.writer.write_all(request.as_bytes()).await?;
        self.writer.flush().await
    }

    /// The next line that comes, if it has at most so many bytes.
    ///
    /// # Cancel safety
    /// As [`Connection::send`].
    pub(super) async fn receive(&mut self, most: usize) -> io::Result<&[u8]> {
        match line::read_async(&mut self.reader, &mut self.line, most).await? {
            Line::Read => Ok(&self.line),
            Line::End | Line::Unended => Err(io::ErrorKind::UnexpectedEof.into()),
            Line::TooLong => Err(io::Error::other(format!("an answer of more than {most} bytes"))),
        }
    }
}
