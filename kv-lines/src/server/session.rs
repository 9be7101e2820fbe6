//! A session: reads requests, writes responses and events.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use kv_core::{Error, Kv, KvStore, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::execute::execute;
use super::input::{Input, Received};
use super::output::{self, LARGE_BYTES, Output};
use super::parse::parse;
use super::response::{Response, blocking};
use super::rules::Rules;
use super::streams::{EventBytes, Streams};
use crate::hello::Hello;
use crate::line::{Line, MAX_LINE_BYTES};
use crate::request::Request;
use crate::shape::StreamEvent;

/// Serves one session: executes its requests one after the other until the input ends. The session needs no token and
/// has no timeouts, because the caller trusts the peer. A session whose first line is not `hello` ends with an error
/// line.
///
/// # Errors
/// The errors of reading and writing. A malformed or failed request gets an error response, and the session continues.
pub async fn session(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    run(kv, reader, writer, Rules::trusted(), std::future::ready(())).await
}

/// Serves one session by these rules. After a correct `hello`, the session waits for `admission` and keeps the result
/// of `admission` until the session ends.
pub(super) async fn run<P: Send>(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    rules: Rules,
    admission: impl Future<Output = P> + Send,
) -> io::Result<()> {
    let mut place = None;
    let (out, lines) = Output::new(Arc::clone(&rules.shared_output));
    let output = tokio::spawn(output::write(writer, lines, rules.is_socket));
    let input = run_requests(kv, reader, out, rules, async { place = Some(admission.await) }).await;
    let written = output
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the task that writes the output of the session panicked")));
    input.and(written)
}

async fn run_requests(
    kv: &Kv,
    reader: impl AsyncRead + Send + Unpin,
    out: Output,
    rules: Rules,
    admission: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let token = rules.token.clone();
    let mut input = Input::new(reader, rules);
    let mut session = Session { kv, streams: Streams::default(), out };
    let (id, hello) = match input.hello().await? {
        None | Some(Line::End) => return Ok(()),
        Some(Line::Read | Line::Unterminated) => Hello::check(&input.line, token.as_ref()),
        // An empty line is also not a `hello`, so the peer gets the same error.
        Some(Line::TooLong) => Hello::check(b"", None),
    };
    let is_welcome = hello.is_ok();
    if is_welcome {
        admission.await;
    }
    if !session.send(id, hello.map(|welcome| Response::new(0, || welcome))).await || !is_welcome {
        return Ok(());
    }
    // While the peer does not read the output, the session reads no further request.
    while session.out.drained().await {
        let has_streams = session.streams.is_any_running();
        let read = tokio::select! {
            read = input.next(has_streams) => read?,
            () = session.out.closed() => return Ok(()),
        };
        let Received { line, permit } = match read {
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
                // Other sessions need the permit, and this peer may never read the response.
                drop(permit);
                let error = Error::invalid(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
                session.send(Value::Null, Err(error)).await
            }
            Line::Read | Line::Unterminated if input.line.iter().all(u8::is_ascii_whitespace) => true,
            Line::Read | Line::Unterminated => session.handle(&mut input.line, permit).await,
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
    /// Executes the request of a line and responds. Drops the permit of a large line after the execution. Returns false
    /// if the peer has disconnected.
    async fn handle(&mut self, line: &mut Vec<u8>, mut permit: Option<OwnedSemaphorePermit>) -> bool {
        let mut reservation = None;
        loop {
            let (id, request) = parsed(line).await;
            // A read can be executed again. The request of a large line cannot, because the memory of the line is freed
            // after the first execution.
            let is_repeatable = permit.is_none()
                && matches!(request, Ok(Request::Get { .. } | Request::GetMany { .. } | Request::List(_)));
            let response = match request {
                Ok(Request::Watch(watch)) => {
                    let stream = match self.streams.check(&id).and_then(|()| watch.query()) {
                        Ok(query) => self.kv.store().watch(&query).await,
                        Err(error) => Err(error),
                    };
                    release(line, &mut permit);
                    return self.start(id, stream).await;
                }
                Ok(Request::Subscribe(subscribe)) => {
                    let stream = match self.streams.check(&id).and_then(|()| subscribe.channels()) {
                        Ok(channels) => self.kv.store().subscribe(&channels).await,
                        Err(error) => Err(error),
                    };
                    release(line, &mut permit);
                    return self.start(id, stream).await;
                }
                Ok(Request::Unwatch { of } | Request::Unsubscribe { of }) => {
                    let was_running = self.streams.stop(&of).await;
                    Response::new(0, move || was_running)
                }
                Ok(request) => Response::of(execute(self.kv, request).await),
                Err(error) => Response::of(Err(error)),
            };
            release(line, &mut permit);
            let bytes = response.bytes();
            if reservation.is_none() {
                reservation = if is_repeatable && bytes > LARGE_BYTES {
                    self.out.try_reserve(bytes)
                } else {
                    self.out.reserve(bytes).await
                };
            }
            if let Some(reservation) = reservation {
                return self.out.send(response.encode(id).await, reservation).await;
            }
            if !is_repeatable {
                return false;
            }
            // The memory for large responses is in use. Drop this response while waiting, and read again afterwards.
            drop(response);
            reservation = self.out.reserve(bytes).await;
            if reservation.is_none() {
                return false;
            }
        }
    }

    /// Responds that the stream is active, and then starts to send its events. If the stream did not start, responds
    /// with the error. Returns false if the peer has disconnected.
    async fn start<T>(&mut self, id: Value, stream: Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>>) -> bool
    where
        T: EventBytes + Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        match stream {
            Ok(stream) => {
                let is_connected = self.send(id.clone(), Ok(Response::null())).await;
                self.streams.start(id, stream, self.out.clone());
                is_connected
            }
            Err(error) => self.send(id, Err(error)).await,
        }
    }

    /// Sends a response. Returns false if the peer has disconnected.
    async fn send(&self, id: Value, result: Result<Response>) -> bool {
        let response = Response::of(result);
        let Some(reservation) = self.out.reserve(response.bytes()).await else { return false };
        self.out.send(response.encode(id).await, reservation).await
    }
}

/// Parses a line. A large line is parsed on a thread for blocking work. This thread takes the line and returns it.
async fn parsed(line: &mut Vec<u8>) -> (Value, Result<Request>) {
    let taken = std::mem::take(line);
    let bytes = taken.len();
    let work = move || {
        let parsed = parse(&taken);
        (taken, parsed)
    };
    match blocking(bytes, work).await {
        Ok((taken, parsed)) => {
            *line = taken;
            parsed
        }
        Err(error) => (Value::Null, Err(error)),
    }
}

/// Frees a large line and its permit, before the response is sent: other sessions need the permit, and this peer may
/// never read the response.
fn release(line: &mut Vec<u8>, permit: &mut Option<OwnedSemaphorePermit>) {
    if permit.take().is_some() {
        *line = Vec::new();
    }
}
