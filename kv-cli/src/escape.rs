//! Text that cannot harm a terminal.
//!
//! Keys and values come from strangers. Control characters move the cursor, set the title or answer queries; bidirectional
//! marks make text read as something else. On a terminal they are shown as escapes.

use std::borrow::Cow;
use std::fmt::Write;

use kv_lines::escape::is_dangerous;

/// How text stands on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In one line: line breaks and tabs are escaped, and backslashes, so that no two texts look alike.
    Line,
    /// As it is: line breaks and tabs stay.
    Block,
}

/// Escapes what is dangerous in a text.
pub(crate) fn text(text: &str, layout: Layout) -> Cow<'_, str> {
    let stays = |character: char| match (layout, character) {
        (Layout::Block, '\n' | '\t') => true,
        (Layout::Line, '\\') => false,
        _ => !is_dangerous(character),
    };
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            _ if stays(character) => escaped.push(character),
            '\n' | '\r' | '\t' | '\\' => escaped.extend(character.escape_default()),
            _ => escaped.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(escaped)
}

/// Escapes what is dangerous in bytes, and each byte that is no UTF-8 as `\xHH`.
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
    fn nothing_that_a_terminal_acts_on_is_left() {
        let hostile = "a\u{1b}]0;x\u{7}\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\0\rz";
        for layout in [Layout::Line, Layout::Block] {
            let shown = text(hostile, layout);
            assert!(!shown.chars().any(is_dangerous), "{shown:?}");
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
