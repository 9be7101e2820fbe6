//! The protocol of `kv serve`.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use self::support::kv;

/// A client session that sends and receives one line at a time.
struct Session<R, W> {
    reader: BufReader<R>,
    writer: W,
}

impl<R: Read, W: Write> Session<R, W> {
    /// Sends the first line, with a token on TCP.
    fn begin(reader: R, writer: W, token: Option<&str>) -> Self {
        let mut session = Self { reader: BufReader::new(reader), writer };
        let welcome = session.request(&json!({"op": "hello", "version": 1, "token": token}));
        assert_eq!(welcome, json!({"id": null, "result": {"version": 1}}));
        session
    }

    fn send(&mut self, line: &str) {
        writeln!(self.writer, "{line}").unwrap();
        self.writer.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the session has ended");
        serde_json::from_str(&line).unwrap()
    }

    fn request(&mut self, request: &Value) -> Value {
        self.send(&request.to_string());
        self.receive()
    }
}

fn spawn(arguments: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin!("kv"))
        .env("KV_STORE", "memory:")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn session() -> (Child, Session<ChildStdout, ChildStdin>) {
    let mut child = spawn(&["serve", "--json-lines"]);
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    (child, Session::begin(reader, writer, None))
}

/// Starts a server on TCP. Returns the address and the token that it prints.
fn listening() -> (Child, String, String) {
    let mut child = spawn(&["serve", "--json-lines", "--listen", "127.0.0.1:0"]);
    let (address, token) = address_and_token(&mut child);
    (child, address, token)
}

/// Reads the first two messages of a server.
fn address_and_token(child: &mut Child) -> (String, String) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap().strip_prefix("kv: listening on ").unwrap().to_owned();
    let token = lines.next().unwrap().unwrap().strip_prefix("kv: token: ").unwrap().to_owned();
    (address, token)
}

/// Replaces every version by `VERSION`, and every error message by `MESSAGE`, because messages may change.
fn normalize(value: &mut Value) {
    match value {
        Value::String(text) if text.len() == 32 && text.parse::<anykv::Version>().is_ok() => *text = "VERSION".into(),
        Value::Array(values) => values.iter_mut().for_each(normalize),
        Value::Object(fields) => {
            if let Some(message) = fields.get_mut("message") {
                *message = "MESSAGE".into();
            }
            fields.values_mut().for_each(normalize);
        }
        _ => {}
    }
}

#[test]
fn the_examples_of_the_protocol_match_the_server() {
    let protocol = include_str!("../../kv-lines/PROTOCOL.md");
    let mut checked = 0;
    for block in protocol.split("```jsonl\n").skip(1) {
        let (mut child, mut session) = if block.contains("\"hello\"") {
            let mut child = spawn(&["serve", "--json-lines"]);
            let (reader, writer) = (BufReader::new(child.stdout.take().unwrap()), child.stdin.take().unwrap());
            (child, Session { reader, writer })
        } else {
            session()
        };
        for exchange in block.split("```").next().unwrap().split("> ").skip(1) {
            let (request, responses) = exchange.split_once('\n').unwrap();
            session.send(request);
            let mut expected: Vec<Value> =
                responses.lines().map(|line| serde_json::from_str(line.strip_prefix("< ").unwrap()).unwrap()).collect();
            let mut received: Vec<Value> = expected.iter().map(|_| session.receive()).collect();
            expected.iter_mut().chain(&mut received).for_each(normalize);
            // An event may come before the response to the request that caused it.
            received.sort_by_key(|response| expected.iter().position(|expected| expected == response));
            assert_eq!(received, expected, "{request}");
            checked += expected.len();
        }
        drop(session);
        assert!(child.wait().unwrap().success());
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn the_protocol_lists_exactly_the_known_operations() {
    let protocol = include_str!("../../kv-lines/PROTOCOL.md");
    let rows = protocol.lines().filter(|line| line.starts_with("| `"));
    let listed =
        rows.flat_map(|row| row.split('|').nth(1).unwrap().split(", ").map(|name| name.trim().trim_matches('`')));
    let mut listed: Vec<String> = listed.map(|name| format!("`{name}`")).collect();
    let (_child, mut session) = session();
    let error = session.request(&json!({"id": 1, "op": "zap"}));
    let message = error["error"]["message"].as_str().unwrap();
    let (_, known) = message.split_once("expected one of ").unwrap();
    let mut known: Vec<String> = known.split(", ").map(str::to_owned).collect();
    known.sort();
    listed.sort();
    assert_eq!(known, listed);
}

#[test]
fn a_malformed_line_gets_an_error_and_the_session_continues() {
    let (_child, mut session) = session();
    let bad = [
        ("nope", Value::Null),
        ("[1]", Value::Null),
        (r#"{"id":1}"#, json!(1)),
        (r#"{"id":2,"op":"get"}"#, json!(2)),
        (r#"{"id":3,"op":"get","key":"a"}"#, json!(3)),
        (r#"{"id":4,"op":"get","key":["a"],"keys":[]}"#, json!(4)),
        (r#"{"id":5,"op":"ping","loud":true}"#, json!(5)),
        (r#"{"id":6,"op":"set","key":["a"],"value":"%","encoding":"base64"}"#, json!(6)),
        (r#"{"id":7,"op":"touch","key":["a"],"expiry":"keep"}"#, json!(7)),
        (r#"{"id":8,"op":"increment","key":["a"],"by":1.5}"#, json!(8)),
        (r#"{"id":9,"op":"watch"}"#, json!(9)),
        (r#"{"op":"watch","prefix":[]}"#, Value::Null),
        (r#"{"id":1e999,"op":"ping"}"#, Value::Null),
        (r#"{"id":"\ud800","op":"ping"}"#, Value::Null),
    ];
    for (line, id) in bad {
        session.send(line);
        let response = session.receive();
        assert!(response["id"] == id && response["error"]["kind"] == "invalid", "{line}: {response}");
    }
    session.send("");
    session.writer.write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(session.receive()["error"]["kind"], "invalid");
    assert_eq!(session.request(&json!({"id": 10, "op": "ping"})), json!({"id": 10, "result": null}));
}

#[test]
fn a_line_over_the_limit_gets_an_error_and_is_skipped() {
    let (_child, mut session) = session();
    let responses = std::thread::scope(|threads| {
        threads.spawn(|| {
            let block = vec![b'x'; 1 << 20];
            (0..33).for_each(|_| session.writer.write_all(&block).unwrap());
            session.writer.write_all(b"\n{\"id\":1,\"op\":\"ping\"}\n").unwrap();
        });
        let mut lines = (&mut session.reader).lines();
        [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()]
    });
    assert!(responses[0].contains("longer than 33554432 bytes"), "{}", responses[0]);
    assert_eq!(responses[1], r#"{"id":1,"result":null}"#);
}

#[test]
fn a_stream_delivers_from_its_response_until_unsubscribe() {
    let (_child, mut session) = session();
    assert_eq!(
        session.request(&json!({"id": "s", "op": "subscribe", "channels": ["c"]})),
        json!({"id": "s", "result": null})
    );
    let again = session.request(&json!({"id": "s", "op": "watch", "prefix": []}));
    assert!(again["error"]["message"].as_str().unwrap().contains("is running"), "{again}");
    session.send(r#"{"id":1,"op":"publish","channel":["c","d"],"value":"/w==","encoding":"base64"}"#);
    let mut both = [session.receive(), session.receive()];
    both.sort_by_key(|line| line["id"].is_string());
    let event = json!({"event": "message", "channel": ["c", "d"], "value": "/w==", "encoding": "base64"});
    assert_eq!(both, [json!({"id": 1, "result": null}), json!({"id": "s", "event": event})]);
    assert_eq!(session.request(&json!({"id": 2, "op": "unsubscribe", "of": "s"}))["result"], true);
    assert_eq!(session.request(&json!({"id": 3, "op": "publish", "channel": ["c"], "value": "x"}))["id"], 3);
    assert_eq!(session.request(&json!({"id": 4, "op": "unsubscribe", "of": "s"}))["result"], false);
}

#[test]
fn closing_the_store_ends_its_streams() {
    let (_child, mut session) = session();
    session.request(&json!({"id": "w", "op": "watch", "key": ["a"]}));
    session.send(r#"{"id":1,"op":"close"}"#);
    let mut both = [session.receive(), session.receive()];
    both.sort_by_key(|line| line["id"].is_string());
    assert_eq!(both, [json!({"id": 1, "result": null}), json!({"id": "w", "event": {"event": "end"}})]);
    assert_eq!(session.request(&json!({"id": 2, "op": "get", "key": ["a"]}))["error"]["kind"], "closed");
}

#[test]
fn the_ttl_of_the_url_is_the_default_expiry() {
    let requests = concat!(
        r#"{"op":"hello","version":1}"#,
        "\n",
        r#"{"id":1,"op":"set","key":["a"],"value":"x"}"#,
        "\n",
        r#"{"id":2,"op":"set","key":["b"],"value":"x","expiry":"never"}"#,
        "\n",
        r#"{"id":3,"op":"get_many","keys":[["a"],["b"]]}"#,
        "\n",
    );
    let output =
        kv().args(["--store", "memory:?ttl=1h", "serve", "--json-lines"]).write_stdin(requests).assert().success();
    let last: Value =
        serde_json::from_slice(output.get_output().stdout.split(|&byte| byte == b'\n').nth(3).unwrap()).unwrap();
    assert!(last["result"][0]["result"]["expires_at"].is_u64(), "{last}");
    assert!(last["result"][1]["result"]["expires_at"].is_null(), "{last}");
}

#[test]
fn connections_share_one_store() {
    let (mut child, address, token) = listening();
    let connect = || {
        let writer = TcpStream::connect(&address).unwrap();
        Session::begin(writer.try_clone().unwrap(), writer, Some(&token))
    };
    let (mut one, mut other) = (connect(), connect());
    assert_eq!(
        one.request(&json!({"id": "w", "op": "watch", "prefix": ["k"], "keys_only": true}))["result"],
        Value::Null
    );
    assert_eq!(
        other.request(&json!({"id": 1, "op": "set", "key": ["k", "\n"], "value": "v"}))["result"]["outcome"],
        "stored"
    );
    assert_eq!(one.receive(), json!({"id": "w", "event": {"event": "set", "key": ["k", "\n"]}}));
    drop(other);
    assert_eq!(one.request(&json!({"id": 2, "op": "get", "key": ["k", "\n"]}))["result"]["value"], "v");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_request_from_a_web_page_changes_nothing() {
    let (mut child, address, token) = listening();
    let mut page = TcpStream::connect(&address).unwrap();
    let lines = "\n{\"op\":\"set\",\"key\":[\"x\"],\"value\":\"1\"}\n{\"op\":\"close\"}\n";
    write!(page, "POST / HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n{lines}").unwrap();
    let mut response = String::new();
    // The server closes the connection with unread input, so the connection may be reset.
    let _ = page.read_to_string(&mut response);
    assert!(response.is_empty() || response.contains("\"denied\""), "{response}");
    let url = format!("lines://{address}?token={token}");
    kv().args(["--store", &url, "get", "x"]).assert().code(1);
    kv().args(["--store", &format!("lines://{address}"), "get", "x"]).assert().code(7);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_session_without_hello_ends_before_its_first_request() {
    let output =
        kv().args(["serve", "--json-lines"]).write_stdin("{\"op\":\"ping\"}\n{\"op\":\"ping\"}\n").assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.lines().count() == 1 && text.contains("\"denied\""), "{text}");
}

#[cfg(unix)]
#[test]
fn the_token_file_is_private_and_a_unix_socket_needs_no_token() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (folder.path().join("token"), folder.path().join("kv.sock"));
    let (file, socket) = (file.display().to_string(), format!("unix:{}", socket.display()));
    let serve = |arguments: &[&str]| {
        let mut child = spawn(&[&["serve", "--json-lines", "--listen"], arguments].concat());
        let mut message = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut message).unwrap();
        (child, message.trim().strip_prefix("kv: listening on ").unwrap().to_owned())
    };
    let (mut on_tcp, address) = serve(&["127.0.0.1:0", "--token-file", &file]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (mut on_socket, bound) = serve(&[&socket]);
    assert_eq!(bound, socket);
    for url in [format!("lines://{address}?token_file={file}"), format!("lines:{socket}")] {
        kv().args(["--store", &url, "set", "a", "1"]).assert().success();
        assert_eq!(kv().args(["--store", &url, "get", "a"]).assert().success().get_output().stdout, b"1");
    }
    for child in [&mut on_tcp, &mut on_socket] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_program_survives_more_connections_than_descriptors() {
    let program = assert_cmd::cargo::cargo_bin!("kv");
    let script = format!(
        "ulimit -n 100; exec '{}' serve --json-lines --listen 127.0.0.1:0 --max-connections 1000",
        program.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .env("KV_STORE", "memory:")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (address, token) = address_and_token(&mut child);
    let idle: Vec<TcpStream> = (0..245).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert!(child.try_wait().unwrap().is_none(), "the program has ended");
    drop(idle);
    kv().args(["--store", &format!("lines://{address}?token={token}"), "set", "a", "1"]).assert().success();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn a_token_file_that_other_users_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-of-this-test").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["serve", "--json-lines", "--until-eof", "--listen", "127.0.0.1:0", "--token-file"];
    let refused = kv().env("KV_STORE", "memory:").args(arguments).arg(&file).assert().code(10);
    let message = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(message.contains("mode 644") && !message.contains("a-token-of-this-test"), "{message}");
}
