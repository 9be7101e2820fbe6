//! A probe of the protocol at an address, to distinguish a wrong scheme from a server that is down.
//!
//! The driver's errors do not distinguish these two cases: a server that expects TLS closes a connection without TLS,
//! and a server without TLS waits for the rest of a command when a client begins TLS.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Failure;
use crate::server::reply_bounds::BadReply;

/// The timeout of a probe.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A TLS handshake with an empty `ClientHello`, to which a server with TLS replies with an alert.
const EMPTY_HELLO: &[u8] = &[22, 3, 1, 0, 4, 1, 0, 0, 0];

/// Returns `WrongProtocol` instead of a failure to connect, if a server at the address replies in a protocol that does
/// not fit the scheme.
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

/// Sends a request through a new connection. Returns the first byte of the reply.
async fn first_byte(host: &str, port: u16, request: &[u8]) -> Option<u8> {
    let first = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(request).await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(TIMEOUT, first).await.ok().flatten()
}
