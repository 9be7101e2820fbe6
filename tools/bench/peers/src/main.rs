//! Plays recorded traffic on other layers over the same servers: `peers LAYER URL RECORDING CLIENTS`, and orders on standard input.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has no figure")]

mod opendal;
mod openkeyv;

use std::path::Path;

use player::{Trace, serve};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layer, url, recording, clients] = &arguments[..] else { panic!("peers LAYER URL RECORDING CLIENTS") };
    let peer = match layer.as_str() {
        "opendal" => self::opendal::open(url),
        _ => self::openkeyv::open(url).await,
    };
    serve(peer, Trace::read(Path::new(recording), clients.parse().unwrap())).await;
}

/// A key as one text. Both layers take texts; what has a meaning in a path must not be in it as it is.
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
