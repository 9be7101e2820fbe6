//! A fake server. It parses commands, and replies to each command with the bytes that a function returns.

#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Returns the reply to a command, whose words are in lower case. If the reply is empty, the server sends the default
/// reply.
pub(crate) type Responder = Arc<dyn Fn(&[String]) -> Vec<u8> + Send + Sync>;

/// Starts a fake server that runs as long as the runtime. Returns its URL.
pub(crate) async fn start(responder: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, responder) = (format!("redis://{}", listener.local_addr().unwrap()), Arc::new(responder) as Responder);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, Arc::clone(&responder)));
        }
    });
    url
}

async fn serve(mut connection: TcpStream, responder: Responder) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        while let Some((words, length)) = command(&received) {
            received.drain(..length);
            let reply = responder(&words);
            connection.write_all(&if reply.is_empty() { default_reply(&words) } else { reply }).await?;
        }
        if connection.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

/// Parses the first command. Returns the words of the command and its length in bytes; `None` if the command is not
/// complete.
pub(crate) fn command(received: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let end = received.get(*at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(&received[*at + 1..*at + end]).ok()?.parse::<usize>().ok()?;
        *at += end + 2;
        Some(text)
    };
    let count = line(&mut at)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = line(&mut at)?;
        words.push(String::from_utf8_lossy(received.get(at..at + length)?).to_lowercase());
        at += length + 2;
    }
    (at <= received.len()).then_some((words, at))
}

/// Returns the reply of a server that has an empty namespace `kv` with an index.
pub(crate) fn default_reply(words: &[String]) -> Vec<u8> {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let text = match words[0].as_str() {
        "hello" => "%2\r\n$5\r\nproto\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n".to_owned(),
        "time" => "*2\r\n$10\r\n2000000000\r\n$1\r\n0\r\n".to_owned(),
        "info" => bulk("redis_version:7.0.0\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\n"),
        "get" if words[1] == "kv!layout" => bulk("1 ordered 1 2"),
        "get" => "_\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    };
    text.into_bytes()
}
