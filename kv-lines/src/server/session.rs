//! A session: reads requests, writes responses and events.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use kv_core::{Error, Kv, KvStore, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Answer, blocking};
use super::execute::execute;
use super::input::{Input, Received};
use super::output::{self, LARGE_BYTES, Output};
use super::parse::parse;
use super::rules::Rules;
use super::streams::{EventBytes, Streams};
use crate::hello::Hello;
use crate::line::{Line, MAX_LINE_BYTES};
use crate::request::Request;
use crate::shape::StreamEvent;
use crate::token::Token;

/// Executes requests one after the other until the input ends. The session needs no token and has no timeouts: the
/// streams belong to the caller. A session whose first line is not `hello` ends with an error line.
///
/// # Errors
/// The errors of reading and writing. A malformed or failed request gets an error response, and the session continues.
pub async fn session(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    run(kv, reader, writer, Rules::streams()).await
}

/// Executes requests within the rules of a server.
pub(super) async fn run(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    rules: Rules,
) -> io::Result<()> {
    let (out, lines) = Output::new(Arc::clone(&rules.shared_output));
    let output = tokio::spawn(output::write(writer, lines, rules.is_socket));
    let input = run_requests(kv, reader, out, rules).await;
    let written = output.await.unwrap_or_else(|_| Err(io::Error::other("the writer of the session failed")));
    input.and(written)
}

async fn run_requests(kv: &Kv, reader: impl AsyncRead + Send + Unpin, out: Output, rules: Rules) -> io::Result<()> {
    let token = rules.token.clone();
    let mut input = Input::new(reader, rules);
    let mut session = Session { kv, streams: Streams::default(), out };
    let is_welcome = match input.hello().await? {
        None | Some(Line::End) => false,
        Some(Line::Read | Line::Unterminated) => session.welcome(&input.line, token.as_ref()).await,
        Some(Line::TooLong) => session.welcome(b"", None).await,
    };
    if !is_welcome {
        return Ok(());
    }
    // A session whose output is not read does not read requests.
    while session.out.drained().await {
        let has_streams = session.streams.is_any_running();
        let read = tokio::select! {
            read = input.next(has_streams) => read?,
            () = session.out.closed() => return Ok(()),
        };
        let Received { line, place } = match read {
            None => return Ok(()),
            Some(Ok(received)) => received,
            Some(Err(error)) => {
                session.send(Value::Null, Err(error)).await;
                return Ok(());
            }
        };
        let is_connected = match line {
            Line::End => return Ok(()),
            Line::TooLong => {
                let error = Error::invalid(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
                session.send(Value::Null, Err(error)).await
            }
            Line::Read | Line::Unterminated if input.line.iter().all(u8::is_ascii_whitespace) => true,
            Line::Read | Line::Unterminated => session.handle(&mut input.line, place).await,
        };
        if !is_connected {
            return Ok(());
        }
    }
    Ok(())
}

struct Session<'s> {
    kv: &'s Kv,
    streams: Streams,
    out: Output,
}

impl Session<'_> {
    /// Answers the first line. Returns false if the session must end.
    async fn welcome(&mut self, line: &[u8], token: Option<&Token>) -> bool {
        let (id, result) = Hello::check(line, token);
        let is_welcome = result.is_ok();
        self.send(id, result.map(|welcome| Answer::new(0, || welcome))).await && is_welcome
    }

    /// Handles one line. Frees its place when it is executed. Returns false if the peer has disconnected.
    async fn handle(&mut self, line: &mut Vec<u8>, mut place: Option<OwnedSemaphorePermit>) -> bool {
        let mut room = None;
        loop {
            let (id, request) = parsed(line).await;
            // A request that can be executed again. Not that of a large line, whose memory must be free.
            let is_read = place.is_none()
                && matches!(request, Ok(Request::Get { .. } | Request::GetMany { .. } | Request::List(_)));
            let answer = match request {
                Ok(Request::Watch(watch)) => {
                    let stream = match self.streams.check(&id).and_then(|()| watch.query()) {
                        Ok(query) => self.kv.store().watch(&query).await,
                        Err(error) => Err(error),
                    };
                    return self.start(id, stream).await;
                }
                Ok(Request::Subscribe(subscribe)) => {
                    let stream = match self.streams.check(&id).and_then(|()| subscribe.channels()) {
                        Ok(channels) => self.kv.store().subscribe(&channels).await,
                        Err(error) => Err(error),
                    };
                    return self.start(id, stream).await;
                }
                Ok(Request::Unwatch { of } | Request::Unsubscribe { of }) => {
                    let was_running = self.streams.stop(&of).await;
                    Answer::new(0, move || was_running)
                }
                Ok(request) => Answer::of(execute(self.kv, request).await),
                Err(error) => Answer::of(Err(error)),
            };
            // The peer may not read its answers, and others need the place.
            if place.take().is_some() {
                *line = Vec::new();
            }
            let bytes = answer.bytes();
            if room.is_none() {
                room = if is_read && bytes > LARGE_BYTES {
                    self.out.try_reserve(bytes)
                } else {
                    self.out.reserve(bytes).await
                };
            }
            if let Some(room) = room {
                return self.out.send(answer.encode(id).await, room).await;
            }
            if !is_read {
                return false;
            }
            // The memory for large answers is full. Do not hold this one while waiting: read it again afterwards.
            drop(answer);
            room = self.out.reserve(bytes).await;
            if room.is_none() {
                return false;
            }
        }
    }

    /// Responds that the stream is live, and then starts to send its events.
    async fn start<T>(&mut self, id: Value, stream: Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>>) -> bool
    where
        T: EventBytes + Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        match stream {
            Ok(stream) => {
                let is_connected = self.send(id.clone(), Ok(Answer::null())).await;
                self.streams.start(id, stream, self.out.clone());
                is_connected
            }
            Err(error) => self.send(id, Err(error)).await,
        }
    }

    async fn send(&self, id: Value, result: Result<Answer>) -> bool {
        let answer = Answer::of(result);
        let Some(room) = self.out.reserve(answer.bytes()).await else { return false };
        self.out.send(answer.encode(id).await, room).await
    }
}

/// Parses a line. A large one is parsed on a thread for blocking work, which takes the line and returns it.
async fn parsed(line: &mut Vec<u8>) -> (Value, Result<Request>) {
    let taken = std::mem::take(line);
    let bytes = taken.len();
    let work = move || {
        let parsed = parse(&taken);
        (taken, parsed)
    };
    match blocking(bytes, work).await {
        Some((taken, parsed)) => {
            *line = taken;
            parsed
        }
        None => (Value::Null, Err(Error::unavailable("the server is ending"))),
    }
}
