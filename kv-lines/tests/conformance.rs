//! Runs the conformance suite through a client and a server over a memory store.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_core::{Error, Kv, Result};
use kv_lines::{LinesBuilder, LinesStore, Listener, ServeConfig, Token};
use kv_memory::{CAPABILITIES, MemoryStore};
use tokio::net::TcpListener;

async fn open(fresh: Fresh) -> Result<LinesStore> {
    let kv = Kv::new(MemoryStore::builder().clock(fresh.clock()).build()?);
    let failed = |error| Error::unavailable("cannot bind the listener").with_source(error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let token = Token::random();
    let listener = Listener::tcp(listener, token.clone()).map_err(failed)?;
    tokio::spawn(async move { kv_lines::serve(&kv, listener, &ServeConfig::default()).await });
    LinesBuilder::new(address).token(token).operation_timeout(std::time::Duration::from_secs(60)).open().await
}

fn main() {
    // The protocol has no sinks.
    let mut capabilities = CAPABILITIES;
    capabilities.sinks = false;
    Suite::new("lines", capabilities, open).with_clock().main()
}
