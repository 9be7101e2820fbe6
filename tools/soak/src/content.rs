//! The bytes of values. The bytes are computed from the origin of the value, so that every changed byte is noticed.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::operation::Value;

/// The maximum number of bytes of a foreign value that a report shows.
const SHOWN_BYTES: usize = 40;

impl Value {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Written { writer, number, size } => written(*writer, *number, *size),
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Foreign(text) => text.clone().into_bytes(),
        }
    }

    /// Finds the origin of a value. A value is foreign if its bytes differ from the bytes that its origin determines.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let number = || std::str::from_utf8(bytes).ok()?.parse().ok().map(Self::Number);
        origin(bytes).or_else(number).filter(|value| value.to_bytes() == bytes).unwrap_or_else(|| {
            let shown: Vec<u8> = bytes.iter().copied().take(SHOWN_BYTES).collect();
            Self::Foreign(format!("{} bytes: {}", bytes.len(), shown.escape_ascii()))
        })
    }
}

fn written(writer: usize, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{writer}.{number}.{size};").into_bytes();
    let start = bytes.len();
    // A value is at least as long as its header.
    bytes.resize(size.max(start), 0);
    let mut rng = SmallRng::seed_from_u64(number ^ (writer as u64) << 56);
    if let Some(filling) = bytes.get_mut(start..) {
        rng.fill_bytes(filling);
    }
    bytes
}

fn origin(bytes: &[u8]) -> Option<Value> {
    let end = bytes.iter().position(|byte| *byte == b';')?;
    let mut parts = std::str::from_utf8(bytes.get(..end)?).ok()?.split('.');
    let (writer, number, size) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Value::Written { writer: writer.parse().ok()?, number: number.parse().ok()?, size: size.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_origin_until_a_byte_changes() {
        let value = Value::Written { writer: 3, number: 77, size: 90_000 };
        let mut bytes = value.to_bytes();
        assert_eq!((bytes.len(), Value::from_bytes(&bytes)), (90_000, value));
        bytes[89_999] ^= 1;
        assert!(matches!(Value::from_bytes(&bytes), Value::Foreign(_)));
        bytes.truncate(80_000);
        assert!(matches!(Value::from_bytes(&bytes), Value::Foreign(_)));
        assert_eq!(Value::from_bytes(b"-12"), Value::Number(-12));
        assert!(matches!(Value::from_bytes(b"012"), Value::Foreign(_)));
    }
}
