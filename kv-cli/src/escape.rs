//! Escapes text so that the text cannot harm a terminal.
//!
//! Keys and values are untrusted. Control characters move the cursor, set the window title or make the terminal send
//! replies; bidirectional marks disguise text.

use std::borrow::Cow;
use std::fmt::Write;

use kv_lines::escape::is_dangerous;

/// The layout of escaped text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One line: escapes line breaks and tabs, and backslashes, so that no two texts look alike.
    Line,
    /// Keeps line breaks and tabs.
    Block,
}

/// Escapes dangerous characters in text.
pub(crate) fn text(text: &str, layout: Layout) -> Cow<'_, str> {
    let is_kept = |character: char| match (layout, character) {
        (Layout::Block, '\n' | '\t') => true,
        (Layout::Line, '\\') => false,
        _ => !is_dangerous(character),
    };
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            _ if is_kept(character) => escaped.push(character),
            '\n' | '\r' | '\t' | '\\' => escaped.extend(character.escape_default()),
            _ => escaped.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(escaped)
}

/// Escapes dangerous characters in bytes, and each byte that is not UTF-8 as `\xHH`.
pub(crate) fn bytes(bytes: &[u8], layout: Layout) -> Cow<'_, str> {
    if let Ok(valid) = std::str::from_utf8(bytes) {
        return text(valid, layout);
    }
    let mut escaped = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        escaped.push_str(&text(chunk.valid(), layout));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_characters_are_escaped() {
        let hostile = "a\u{1b}]0;x\u{7}\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\0\rz";
        for layout in [Layout::Line, Layout::Block] {
            let escaped = text(hostile, layout);
            assert!(!escaped.chars().any(is_dangerous), "{escaped:?}");
        }
        assert_eq!(text("\u{1b}[2J\u{9b}\u{7f}\u{202e}", Layout::Line), r"\u{1b}[2J\u{9b}\u{7f}\u{202e}");
    }

    #[test]
    fn harmless_text_is_borrowed() {
        assert!(matches!(text("héllo 🦀", Layout::Line), Cow::Borrowed("héllo 🦀")));
        assert!(matches!(text("two\n\tlines", Layout::Block), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_is_one_line_and_no_two_texts_look_alike() {
        assert_eq!(text("a\nb\tc\\n", Layout::Line), r"a\nb\tc\\n");
        assert_eq!(bytes(b"\xff\\xff", Layout::Line), r"\xff\\xff");
    }
}
