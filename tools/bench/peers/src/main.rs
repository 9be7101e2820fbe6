//! Plays recorded traffic on other layers over the same servers: `peers LAYER URL RECORDING CLIENTS`, with requests on
//! standard input.

#![allow(clippy::unwrap_used, reason = "a failed measurement panics")]

mod opendal;
mod openkeyv;

use std::path::Path;

use player::{Trace, serve};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layer, url, recording, clients] = &arguments[..] else { panic!("usage: peers LAYER URL RECORDING CLIENTS") };
    let peer = match layer.as_str() {
        "opendal" => self::opendal::open(url),
        _ => self::openkeyv::open(url).await,
    };
    serve(peer, Trace::read(Path::new(recording), clients.parse().unwrap())).await;
}

/// Encodes a key as one string, because both layers take strings. Percent-encodes characters that have a meaning in a
/// path.
fn text(key: &[String]) -> String {
    let mut text = String::new();
    for segment in key {
        for character in segment.chars() {
            match character {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => text.push(character),
                _ => text.extend(character.to_string().bytes().map(|byte| format!("%{byte:02X}"))),
            }
        }
        text.push(':');
    }
    text
}
