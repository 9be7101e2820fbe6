//! Escapes JSON text so that the text cannot harm a terminal.
//!
//! Keys and values are untrusted. Control characters move the cursor, set the window title or make the terminal send
//! replies; bidirectional marks disguise text.

use std::fmt::Write;

/// True if a terminal may act on the character, or may reorder the text after it.
pub fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Replaces dangerous characters in JSON text by `\uXXXX`. The result is the same JSON and safe for any terminal.
///
/// Only strings can contain such characters: the syntax of JSON consists of printable ASCII and line breaks.
pub fn json(json: String) -> String {
    if !json.chars().any(is_dangerous) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_dangerous(character) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({"k\u{202e}": "\u{7f}\u{9b}é"});
        let escaped = json(value.to_string());
        assert!(!escaped.chars().any(is_dangerous), "{escaped:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
