//! One session: requests in, responses and events out.

use std::io;
use std::pin::Pin;

use futures_util::Stream;
use kv_core::{Error, Kv, KvStore, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::execute::execute;
use super::parse::parse;
use super::room::Each;
use super::streams::Streams;
use crate::escape;
use crate::line::{self, Line, MAX_LINE_BYTES};
use crate::request::Request;
use crate::shape::Heard;

/// How many lines may wait for a peer that does not read; then the session waits for it.
const MAX_WAITING: usize = 16;

/// Answers requests in the order in which they come, until the input ends.
///
/// # Errors
/// What reading or writing gives. A request that cannot be read or done is answered, and ends nothing.
pub async fn session(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let (out, waiting) = mpsc::channel(MAX_WAITING);
    let output = tokio::spawn(write(writer, waiting));
    let read = answer_all(kv, reader, out).await;
    let written = output.await.unwrap_or_else(|_| Err(io::Error::other("the writer of the session failed")));
    read.and(written)
}

async fn answer_all(kv: &Kv, reader: impl AsyncRead + Send + Unpin, out: Sender<String>) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut session = Session { kv, streams: Streams::default(), out };
    loop {
        let read = tokio::select! {
            read = line::read_async(&mut reader, &mut line, MAX_LINE_BYTES) => read?,
            () = session.out.closed() => return Ok(()),
        };
        let peer_is_there = match read {
            Line::End => return Ok(()),
            Line::TooLong => {
                let error = Error::invalid(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
                session.send(Value::Null, Err::<(), _>(error)).await
            }
            Line::Read | Line::Unended if line.iter().all(u8::is_ascii_whitespace) => true,
            Line::Read | Line::Unended => session.answer(&line).await,
        };
        if !peer_is_there {
            return Ok(());
        }
    }
}

/// Writes lines, and flushes when none is waiting.
async fn write(writer: impl AsyncWrite + Unpin, mut waiting: Receiver<String>) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    while let Some(line) = waiting.recv().await {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await?;
        if waiting.is_empty() {
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
    /// Answers one line; `false` when the peer is gone.
    async fn answer(&mut self, line: &[u8]) -> bool {
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

    /// Answers that the stream is live, and only then lets its events out.
    async fn start<T>(&mut self, id: Value, stream: Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>>) -> bool
    where
        T: Send + 'static,
        for<'e> Heard: From<&'e T>,
    {
        match stream {
            Ok(stream) => {
                let peer_is_there = self.send(id.clone(), Ok(Value::Null)).await;
                self.streams.start(id, stream, self.out.clone());
                peer_is_there
            }
            Err(error) => self.send(id, Err::<(), _>(error)).await,
        }
    }

    async fn send(&self, id: Value, result: Result<impl Serialize>) -> bool {
        let response = Response { id: &id, outcome: Each::of(result, |result| result) };
        // What has string keys and no numbers out of range is JSON.
        let line = serde_json::to_string(&response).unwrap_or_default();
        self.out.send(escape::json(line)).await.is_ok()
    }
}

#[derive(Serialize)]
struct Response<'r, T> {
    id: &'r Value,
    #[serde(flatten)]
    outcome: Each<T>,
}
