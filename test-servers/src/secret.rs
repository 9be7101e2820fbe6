//! Passwords: where they come from, and how a URL carries them.

use std::fs::File;
use std::io::{self, Read};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A password that nobody else on the machine knows.
pub(crate) fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// As a part of a URL.
pub(crate) fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}
