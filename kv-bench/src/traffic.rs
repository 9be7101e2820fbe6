//! Keys and values as the measurements use them.

use anykv::{Bytes, Key};
use rand::RngExt;

/// The key of an entry. Numbers are scattered, so that neighbours in time are none in the order of keys.
pub(crate) fn key(number: u64) -> Key {
    Key::new(["entries", &format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))]).unwrap()
}

/// A value that no other write has.
pub(crate) fn value(bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    rand::rng().fill(value.as_mut_slice());
    value.into()
}

/// One of the first entries.
pub(crate) fn any(entries: u64) -> Key {
    key(rand::rng().random_range(0..entries))
}
