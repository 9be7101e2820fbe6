//! The one place that escapes: segments to canonical text and back.
//!
//! Segments are joined by `#`; inside a segment every byte up to `0x24` (`$`) is written `$HH` in upper-case hex.
//! The separator sorts below every byte that a segment can hold, and the escape right above it, so that the byte order
//! of the text is the order of the segments with a parent before its children (clause K-3), and the descendants of a
//! prefix `p` are one range, `p` to `p$` (clause K-4).

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Joins segments.
pub(crate) const SEPARATOR: char = '#';
/// Starts an escape; also the first text behind everything that a prefix covers.
pub(crate) const ESCAPE: char = '$';

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Builds canonical text segment by segment, on the stack while it is short.
pub(crate) struct Encoder {
    stack: [u8; Self::STACK_BYTES],
    length: usize,
    heap: Vec<u8>,
    segments: usize,
}

impl Encoder {
    const STACK_BYTES: usize = 192;

    pub(crate) fn new() -> Self {
        Self { stack: [0; Self::STACK_BYTES], length: 0, heap: Vec::new(), segments: 0 }
    }

    /// Appends one segment, with the separator where it is not the first.
    pub(crate) fn segment(&mut self, segment: &str) {
        if self.segments > 0 {
            self.extend(&[SEPARATOR as u8]);
        }
        self.segments += 1;
        let mut rest = segment.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| byte <= ESCAPE as u8) {
            let (plain, escaped) = rest.split_at(at);
            self.extend(plain);
            if let Some((&byte, after)) = escaped.split_first() {
                self.extend(&escape(byte));
                rest = after;
            }
        }
        self.extend(rest);
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        let bytes = if self.heap.is_empty() { self.stack.get(..self.length).unwrap_or_default() } else { &self.heap };
        // Segments are UTF-8 and every escape replaces one ASCII byte by ASCII, so this does not fail.
        str::from_utf8(bytes).unwrap_or_default()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if self.heap.is_empty() {
            if let Some(room) = self.stack.get_mut(self.length..end) {
                room.copy_from_slice(bytes);
                self.length = end;
                return;
            }
            self.heap.extend_from_slice(self.stack.get(..self.length).unwrap_or_default());
        }
        self.heap.extend_from_slice(bytes);
        self.length = end;
    }
}

fn escape(byte: u8) -> [u8; 3] {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    [ESCAPE as u8, digit(byte >> 4), digit(byte & 0xF)]
}

/// Splits canonical text into its decoded segments.
pub(crate) fn segments(text: &str) -> impl DoubleEndedIterator<Item = Cow<'_, str>> + Clone {
    text.split(SEPARATOR).map(decode_segment)
}

/// Decodes one segment of text that is known to be canonical.
fn decode_segment(segment: &str) -> Cow<'_, str> {
    if !segment.contains(ESCAPE) {
        return Cow::Borrowed(segment);
    }
    let mut decoded = String::with_capacity(segment.len());
    let mut pieces = segment.split(ESCAPE);
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        // Every piece starts with the two hex digits of an ASCII byte: `check` let nothing else in.
        let (digits, plain) = piece.split_at_checked(2).unwrap_or((piece, ""));
        decoded.push(u8::from_str_radix(digits, 16).map_or(char::REPLACEMENT_CHARACTER, char::from));
        decoded.push_str(plain);
    }
    Cow::Owned(decoded)
}

/// Accepts exactly the texts that [`Encoder`] writes.
///
/// # Errors
/// `Invalid`, with the byte offset of the first thing that is not canonical.
pub(crate) fn check(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == ESCAPE as u8 {
            let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).unwrap_or_default();
            let value = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2);
            match value {
                Some(value) if value <= ESCAPE as u8 && escape(value).get(1..) == Some(digits.as_bytes()) => at += 3,
                _ => return Err(Error::invalid(format!("key text is not canonical at byte {at}: bad escape"))),
            }
        } else if byte < ESCAPE as u8 && byte != SEPARATOR as u8 {
            return Err(Error::invalid(format!(
                "key text is not canonical at byte {at}: byte 0x{byte:02X} must be escaped"
            )));
        } else {
            at += 1;
        }
    }
    Ok(())
}
