//! A session: reads requests, writes responses and events.

use std::io;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use kv_core::{Error, Kv, KvStore, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::execute::execute;
use super::input::{Input, Received};
use super::output::{self, LARGE_BYTES, Output, Reservation};
use super::parse::parse;
use super::response::{Response, blocking};
use super::rules::Rules;
use super::streams::{Event, Source, Streams};
use crate::hello::Hello;
use crate::line::{Line, MAX_LINE_BYTES};
use crate::request::Request;

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
        let mut reserved: Option<(usize, Reservation)> = None;
        loop {
            let (id, request) = parsed(line).await;
            // A read can be executed again. The request of a large line cannot, because the memory of the line is freed
            // after the first execution.
            let is_repeatable = permit.is_none()
                && matches!(request, Ok(Request::Get { .. } | Request::GetMany { .. } | Request::List(_)));
            let response = match request {
                Ok(Request::Watch(watch)) => {
                    let stream = match self.streams.check(&id).and_then(|()| watch.query()) {
                        Ok(query) => {
                            self.kv.store().watch(&query).await.map(|events| events.map_ok(Event::Watch).boxed())
                        }
                        Err(error) => Err(error),
                    };
                    release(line, &mut permit);
                    return self.start(id, stream).await;
                }
                Ok(Request::Subscribe(subscribe)) => {
                    let stream = match self.streams.check(&id).and_then(|()| subscribe.channels()) {
                        Ok(channels) => {
                            let events = self.kv.store().subscribe(&channels).await;
                            events.map(|events| events.map_ok(Event::Message).boxed())
                        }
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
            // The entries may have grown since the memory was reserved.
            reserved = reserved.filter(|(size, _)| bytes <= *size);
            let reservation = match reserved {
                Some((_, reservation)) => Some(reservation),
                None if is_repeatable && bytes > LARGE_BYTES => self.out.try_reserve(bytes),
                None => self.out.reserve(bytes).await,
            };
            if let Some(reservation) = reservation {
                return self.out.send(response.encode(id).await, reservation).await;
            }
            if !is_repeatable {
                return false;
            }
            // The memory for large responses is in use. Drop this response while waiting, and read again afterwards.
            drop(response);
            let Some(reservation) = self.out.reserve(bytes).await else { return false };
            reserved = Some((bytes, reservation));
        }
    }

    /// Responds that the stream is active, and then starts to send its events. If the stream did not start, responds
    /// with the error. Returns false if the peer has disconnected.
    async fn start(&mut self, id: Value, stream: Result<BoxStream<'static, Result<Event>>>) -> bool {
        match stream {
            Ok(events) => {
                let is_connected = self.send(id.clone(), Ok(Response::null())).await;
                let source = Source { kv: self.kv.clone(), events };
                self.streams.start(id, source, self.out.clone());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kv_core::{Bytes, Key, KvStore, SetOptions};
    use kv_memory::MemoryStore;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
    use tokio::time::timeout;

    use super::super::output::SHARED_BYTES;
    use super::*;

    async fn set(store: &MemoryStore, value: impl Into<Bytes>) {
        let key = Key::new(["k"]).unwrap();
        let _ = store.set(&key, value.into(), &SetOptions::default()).await.unwrap();
    }

    /// Starts a session on the store, and sends a request. Returns the client and all the memory for large lines.
    async fn request(store: &MemoryStore, request: &str) -> (BufReader<DuplexStream>, OwnedSemaphorePermit) {
        let rules = Rules::trusted();
        let all = u32::try_from(SHARED_BYTES).unwrap();
        let shared = Arc::clone(&rules.shared_output).acquire_many_owned(all).await.unwrap();
        let (client, server) = tokio::io::duplex(64 << 10);
        let (reader, writer) = tokio::io::split(server);
        let kv = Kv::new(store.clone());
        tokio::spawn(async move { run(&kv, reader, writer, rules, async {}).await });
        let mut client = BufReader::new(client);
        let lines = format!("{{\"op\":\"hello\",\"version\":1}}\n{request}\n");
        client.write_all(lines.as_bytes()).await.unwrap();
        receive(&mut client).await;
        (client, shared)
    }

    async fn receive(client: &mut BufReader<DuplexStream>) -> String {
        let mut line = String::new();
        timeout(Duration::from_secs(10), client.read_line(&mut line)).await.unwrap().unwrap();
        line
    }

    /// True if the session sends nothing for a while.
    async fn waits(client: &mut BufReader<DuplexStream>) -> bool {
        timeout(Duration::from_millis(200), client.fill_buf()).await.is_err()
    }

    #[tokio::test]
    async fn an_entry_that_grows_while_its_line_waits_takes_memory_for_its_new_size() {
        for op in [r#"{"id":1,"op":"get","key":["k"]}"#, r#"{"id":1,"op":"watch","key":["k"],"snapshot":true}"#] {
            let store = MemoryStore::new();
            set(&store, vec![b'x'; 100 << 10]).await;
            let (mut client, mut shared) = request(&store, op).await;
            if op.contains("watch") {
                receive(&mut client).await;
            }
            assert!(waits(&mut client).await, "a line without memory: {op}");
            set(&store, vec![b'x'; 1 << 20]).await;
            // This part is enough for the old size only.
            drop(shared.split(512 << 10));
            assert!(waits(&mut client).await, "a line with the memory of the old size: {op}");
            drop(shared);
            assert!(receive(&mut client).await.len() > 1 << 20, "{op}");
        }
    }

    #[tokio::test]
    async fn an_event_that_waits_for_memory_holds_no_value() {
        struct Tracked(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Tracked {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let (store, value) = (MemoryStore::new(), Arc::new(vec![b'x'; 100 << 10]));
        let (mut client, shared) = request(&store, r#"{"id":1,"op":"watch","key":["k"]}"#).await;
        receive(&mut client).await;
        set(&store, Bytes::from_owner(Tracked(Arc::clone(&value)))).await;
        assert!(waits(&mut client).await);
        set(&store, "small").await;
        assert_eq!(Arc::strong_count(&value), 1, "the event holds the value");
        drop(shared);
        assert!(receive(&mut client).await.contains(r#""value":"small""#));
    }
}
