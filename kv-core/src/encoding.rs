//! Encoding of segments as canonical text, and decoding. All escaping is in this file.
//!
//! Segments are joined by `#`. Inside a segment, every byte up to `0x24` (`$`) is written as `$HH` in upper-case hex.
//! The separator sorts below every byte that a segment can contain, and the escape character sorts directly above the
//! separator. Therefore texts in byte order are in the order of their segments, and a parent comes before its children
//! (clause K-3). The keys under a prefix `p` form one range, from `p` to `p$` (clause K-4).

use std::borrow::Cow;

use arrayvec::ArrayString;

use crate::error::{Error, Result};

/// The separator between two segments.
pub(crate) const SEPARATOR: char = '#';
const SEPARATOR_TEXT: &str = "#";
/// The first character of an escape. A prefix followed by this character is the exclusive upper bound of the keys under
/// the prefix.
pub(crate) const ESCAPE: char = '$';

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Builds canonical text segment by segment.
#[derive(Default)]
pub(crate) struct Encoder {
    text: Text,
    segments: usize,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends one segment, preceded by a separator unless it is the first.
    pub(crate) fn segment(&mut self, segment: &str) {
        if self.segments > 0 {
            self.text.push(SEPARATOR_TEXT);
        }
        self.segments += 1;
        if is_plain(segment) {
            self.text.push(segment);
        } else {
            self.escaped(segment);
        }
    }

    fn escaped(&mut self, mut rest: &str) {
        while let Some(at) = rest.bytes().position(must_be_escaped) {
            // `split_at` cannot panic: the byte is ASCII, so both of its ends are character boundaries.
            let (plain, escaped) = rest.split_at(at);
            let (byte, after) = escaped.split_at(1);
            self.text.push(plain);
            self.text.push(&escape(byte.bytes().next().unwrap_or_default()));
            rest = after;
        }
        self.text.push(rest);
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// Returns the text built so far.
    pub(crate) fn text(&self) -> &str {
        self.text.as_str()
    }
}

/// Joins two canonical texts with a separator.
pub(crate) fn join(first: &str, rest: &str) -> Text {
    let mut text = Text::default();
    for piece in [first, SEPARATOR_TEXT, rest] {
        text.push(piece);
    }
    text
}

/// A string builder that stays on the stack while the text is short.
#[derive(Default)]
pub(crate) struct Text {
    stack: ArrayString<STACK_BYTES>,
    /// The whole text, if the text does not fit into the stack buffer. Otherwise, this field is empty.
    heap: String,
}

/// The size of the stack buffer, in bytes.
const STACK_BYTES: usize = 192;

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        if self.heap.is_empty() { &self.stack } else { &self.heap }
    }

    #[inline]
    fn push(&mut self, piece: &str) {
        if !self.heap.is_empty() || self.stack.try_push_str(piece).is_err() {
            self.push_on_heap(piece);
        }
    }

    #[cold]
    fn push_on_heap(&mut self, piece: &str) {
        if self.heap.is_empty() {
            self.heap.push_str(&self.stack);
        }
        self.heap.push_str(piece);
    }
}

fn must_be_escaped(byte: u8) -> bool {
    byte <= ESCAPE as u8
}

/// True if the segment needs no escapes. This is the common case. The loop has no early exit, because the compiler
/// vectorises only loops without early exits.
#[inline]
fn is_plain(segment: &str) -> bool {
    !segment.bytes().fold(false, |found, byte| found | must_be_escaped(byte))
}

fn escape(byte: u8) -> ArrayString<3> {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().map_or('0', char::from);
    let mut text = ArrayString::new();
    for piece in [ESCAPE, digit(byte >> 4), digit(byte & 0xF)] {
        text.push(piece);
    }
    text
}

/// Splits canonical text into its decoded segments.
pub(crate) fn segments(text: &str) -> impl DoubleEndedIterator<Item = Cow<'_, str>> + Clone {
    text.split(SEPARATOR).map(decode_segment)
}

/// Decodes one segment of canonical text.
fn decode_segment(segment: &str) -> Cow<'_, str> {
    if !segment.contains(ESCAPE) {
        return Cow::Borrowed(segment);
    }
    let mut decoded = String::with_capacity(segment.len());
    let mut pieces = segment.split(ESCAPE);
    decoded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        // `check` accepts only pieces that start with the two hex digits of an ASCII byte.
        let (digits, plain) = piece.split_at_checked(2).unwrap_or((piece, ""));
        decoded.push(u8::from_str_radix(digits, 16).map_or(char::REPLACEMENT_CHARACTER, char::from));
        decoded.push_str(plain);
    }
    Cow::Owned(decoded)
}

/// Checks that [`Encoder`] can produce the text.
///
/// # Errors
/// `Invalid`, with the byte offset of the first violation.
pub(crate) fn check(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == ESCAPE as u8 {
            let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).unwrap_or_default();
            let value = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2);
            match value {
                Some(value) if value <= ESCAPE as u8 && escape(value).get(1..) == Some(digits) => at += 3,
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
