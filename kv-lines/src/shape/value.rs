//! The JSON form of values: any bytes as a string.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kv_core::{Bytes, Error, Result};
use serde::{Deserialize, Serialize};

use crate::escape;

/// The encoding of a value as a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The value is UTF-8 and is not encoded.
    #[default]
    Text,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    /// True for the default, which JSON omits.
    pub fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// A value as a string: text, or base64 with `"encoding":"base64"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The text or base64.
    pub value: String,
    /// The encoding of `value`.
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    pub encoding: Encoding,
}

impl Value {
    /// Encodes bytes as text if they are UTF-8 and their escaped text is not longer than their base64. Encodes other
    /// bytes as base64.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if is_text_shorter(text) => Self { value: text.to_owned(), encoding: Encoding::Text },
            _ => Self { value: STANDARD.encode(bytes), encoding: Encoding::Base64 },
        }
    }

    /// Encodes bytes as text if they are printable ASCII that JSON does not escape. Encodes other bytes as base64. The
    /// result is at most a third longer than the bytes.
    pub fn compact(bytes: &[u8]) -> Self {
        let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.iter().all(is_plain) => Self { value: text.to_owned(), encoding: Encoding::Text },
            _ => Self { value: STANDARD.encode(bytes), encoding: Encoding::Base64 },
        }
    }

    /// Returns the maximum length of the compact form of `length` bytes.
    pub(crate) fn compact_bytes(length: usize) -> usize {
        length.div_ceil(3).saturating_mul(4)
    }

    /// Decodes the bytes.
    ///
    /// # Errors
    /// `Invalid` for bad base64.
    pub fn into_bytes(self) -> Result<Bytes> {
        match self.encoding {
            Encoding::Text => Ok(Bytes::from(self.value)),
            Encoding::Base64 => STANDARD
                .decode(&self.value)
                .map(Bytes::from)
                .map_err(|error| Error::invalid(format!("malformed base64: {error}"))),
        }
    }
}

/// True if the text in JSON, with its escapes, has at most the length of its base64 with the field `encoding`.
fn is_text_shorter(text: &str) -> bool {
    const ENCODING_FIELD: usize = r#","encoding":"base64""#.len();
    let escaped = |character: char| match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        _ if escape::is_dangerous(character) => 6,
        _ => character.len_utf8(),
    };
    text.chars().map(escaped).sum::<usize>() <= text.len().div_ceil(3) * 4 + ENCODING_FIELD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_round_trip() {
        for bytes in [&b""[..], b"text", b"\0\n\"", "é🦀".as_bytes(), b"\xff\xfe", &[0xed, 0xa0, 0x80]] {
            for value in [Value::of(bytes), Value::compact(bytes)] {
                let text = serde_json::to_string(&value).unwrap();
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap().into_bytes().unwrap(), bytes, "{text}");
            }
        }
        assert_eq!(serde_json::to_string(&Value::of(b"\xff")).unwrap(), r#"{"value":"/w==","encoding":"base64"}"#);
    }

    #[test]
    fn an_encoded_value_is_at_most_a_third_longer() {
        for bytes in [vec![1; 3_000], vec![0x7f; 3_000], "\u{9b}".repeat(1_500).into_bytes(), vec![b'"'; 3_000]] {
            let line = escape::json(serde_json::to_string(&Value::of(&bytes)).unwrap());
            assert!(line.len() <= bytes.len() / 3 * 4 + 64, "{}", line.len());
        }
        assert_eq!(Value::of(b"\x01\n").encoding, Encoding::Text);
    }

    #[test]
    fn the_compact_form_is_at_most_a_third_longer() {
        for bytes in [vec![0; 3_000], vec![b'"'; 3_000], vec![b'x'; 3_000], "é".repeat(1_500).into_bytes()] {
            assert!(serde_json::to_string(&Value::compact(&bytes).value).unwrap().len() <= bytes.len() / 3 * 4 + 6);
        }
    }
}
