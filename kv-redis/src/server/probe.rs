//! A probe of the protocol at an address, to tell a wrong scheme from a server that is down.
//!
//! A server that expects TLS closes a connection without TLS and says nothing, and one without TLS waits for the rest
//! of a command.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Failure;
use crate::server::reply_bounds::BadReply;

/// The longest time of a probe.
const LIMIT: Duration = Duration::from_secs(1);

/// A handshake of TLS without content, which a server with TLS answers with an alert.
const EMPTY_HELLO: &[u8] = &[22, 3, 1, 0, 4, 1, 0, 0, 0];

/// A failure to connect, with the reason if the server at the address answers, but not in the protocol of the scheme.
pub(crate) async fn explained(address: &ConnectionAddr, failure: Failure) -> Failure {
    if !matches!(failure, Failure::NotSent(_) | Failure::NotSentInTime) {
        return failure;
    }
    let mistake = match address {
        ConnectionAddr::Tcp(host, port) => first_byte(host, *port, EMPTY_HELLO)
            .await
            .filter(|byte| matches!(byte, 21 | 22))
            .map(|_| Failure::WrongProtocol(BadReply::Tls)),
        ConnectionAddr::TcpTls { host, port, .. } => first_byte(host, *port, b"PING\r\n")
            .await
            .filter(|byte| matches!(byte, b'+' | b'-'))
            .map(|_| Failure::WrongProtocol(BadReply::NoTls)),
        _ => None,
    };
    mistake.unwrap_or(failure)
}

async fn first_byte(host: &str, port: u16, request: &[u8]) -> Option<u8> {
    let answer = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(request).await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(LIMIT, answer).await.ok().flatten()
}
