//! A session: reads requests, writes responses and events.

use std::io;
use std::pin::Pin;

use futures_util::Stream;
use kv_core::{Error, Kv, KvStore, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::budget::Outcome;
use super::execute::execute;
use super::parse::parse;
use super::streams::Streams;
use crate::escape;
use crate::line::{self, Line, MAX_LINE_BYTES};
use crate::request::Request;
use crate::shape::StreamEvent;

/// The most lines that are queued for a slow peer. Then the session waits for the peer.
const MAX_QUEUED_LINES: usize = 16;

/// Executes requests one after the other until the input ends.
///
/// # Errors
/// The errors of reading and writing. A malformed or failed request gets an error response, and the session continues.
pub async fn session(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let (out, lines) = mpsc::channel(MAX_QUEUED_LINES);
    let output = tokio::spawn(write(writer, lines));
    let input = run_requests(kv, reader, out).await;
    let written = output.await.unwrap_or_else(|_| Err(io::Error::other("the writer of the session failed")));
    input.and(written)
}

async fn run_requests(kv: &Kv, reader: impl AsyncRead + Send + Unpin, out: Sender<String>) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut session = Session { kv, streams: Streams::default(), out };
    loop {
        let read = tokio::select! {
            read = line::read_async(&mut reader, &mut line, MAX_LINE_BYTES) => read?,
            () = session.out.closed() => return Ok(()),
        };
        let is_connected = match read {
            Line::End => return Ok(()),
            Line::TooLong => {
                let error = Error::invalid(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
                session.send(Value::Null, Err::<(), _>(error)).await
            }
            Line::Read | Line::Unterminated if line.iter().all(u8::is_ascii_whitespace) => true,
            Line::Read | Line::Unterminated => session.handle(&line).await,
        };
        if !is_connected {
            return Ok(());
        }
    }
}

/// Writes lines, and flushes when the queue is empty.
async fn write(writer: impl AsyncWrite + Unpin, mut lines: Receiver<String>) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    while let Some(line) = lines.recv().await {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await?;
        if lines.is_empty() {
            writer.flush().await?;
        }
    }
    writer.flush().await
}

struct Session<'s> {
    kv: &'s Kv,
    streams: Streams,
    out: Sender<String>,
}

impl Session<'_> {
    /// Handles one line. Returns false if the peer has disconnected.
    async fn handle(&mut self, line: &[u8]) -> bool {
        let (id, request) = parse(line);
        match request {
            Ok(request) => self.run(id, request).await,
            Err(error) => self.send(id, Err::<(), _>(error)).await,
        }
    }

    async fn run(&mut self, id: Value, request: Request) -> bool {
        let store = self.kv.store();
        match request {
            Request::Watch(watch) => {
                let stream = match self.streams.check(&id).and_then(|()| watch.query()) {
                    Ok(query) => store.watch(&query).await,
                    Err(error) => Err(error),
                };
                self.start(id, stream).await
            }
            Request::Subscribe { channels } => {
                let stream = match self.streams.check(&id).and_then(|()| channels.prefix()) {
                    Ok(channels) => store.subscribe(&channels).await,
                    Err(error) => Err(error),
                };
                self.start(id, stream).await
            }
            Request::Unwatch { of } | Request::Unsubscribe { of } => {
                let was_running = self.streams.stop(&of).await;
                self.send(id, Ok(was_running)).await
            }
            request => {
                let result = execute(self.kv, request).await;
                self.send(id, result).await
            }
        }
    }

    /// Responds that the stream is live, and then starts to send its events.
    async fn start<T>(&mut self, id: Value, stream: Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>>) -> bool
    where
        T: Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        match stream {
            Ok(stream) => {
                let is_connected = self.send(id.clone(), Ok(Value::Null)).await;
                self.streams.start(id, stream, self.out.clone());
                is_connected
            }
            Err(error) => self.send(id, Err::<(), _>(error)).await,
        }
    }

    async fn send(&self, id: Value, result: Result<impl Serialize>) -> bool {
        let response = Response { id: &id, outcome: Outcome::of(result, |result| result) };
        // Cannot fail: all map keys are strings, and no number is out of range.
        let line = serde_json::to_string(&response).unwrap_or_default();
        self.out.send(escape::json(line)).await.is_ok()
    }
}

#[derive(Serialize)]
struct Response<'r, T> {
    id: &'r Value,
    #[serde(flatten)]
    outcome: Outcome<T>,
}
