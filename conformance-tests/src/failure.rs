//! Failures of cases, and the macros that make them.

use std::fmt::{self, Debug};

/// The result of a case.
pub(crate) type Verdict = Result<(), Failure>;

/// The reason why a case failed: the expected and the found result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// The text of the failure.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A failure because two values are not equal.
    pub(crate) fn unequal(name: &str, found: &dyn Debug, expected: &dyn Debug) -> Self {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        let text = match first_difference(&expected, &found) {
            Some((at, expected, found)) => {
                format!("different from character {at} on: expected {expected}, found {found}")
            }
            None => format!("expected {}, found {}", shortened(&expected), shortened(&found)),
        };
        Self::new(format!("{}: {text}", shortened(name)))
    }
}

/// The store returned an error where the case expected success.
impl From<kv_core::Error> for Failure {
    fn from(error: kv_core::Error) -> Self {
        let mut message = format!("unexpected error: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::new(message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The maximum number of characters of a text in a failure.
const MAX_SHOWN: usize = 400;

/// Returns the start of a text, because a large value would hide the rest of the failure.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes in all)", text.get(..end).unwrap_or_default(), text.len()),
        None => text.to_owned(),
    }
}

/// Returns the index of the first character in which two long texts differ, and the part of each text around it.
/// Returns `None` if the texts differ in the part that [`shortened`] keeps.
fn first_difference(expected: &str, found: &str) -> Option<(usize, String, String)> {
    const BEFORE: usize = 20;
    let at = expected.chars().zip(found.chars()).take_while(|(one, other)| one == other).count();
    if at < MAX_SHOWN {
        return None;
    }
    let from = |text: &str| {
        let part: String = text.chars().skip(at - BEFORE).take(MAX_SHOWN / 4).collect();
        format!("…{part}… ({} bytes in all)", text.len())
    };
    Some((at, from(expected), from(found)))
}

/// Fails the case unless the condition holds: `ensure!(condition, "text {}", …)`.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::new(format!($($text)+)));
        }
    };
}

/// Fails the case unless both values are equal: `ensure_eq!(found, expected, "the name of the value")`.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($name:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if !(*found == *expected) {
                    return Err($crate::failure::Failure::unequal(&format!($($name)+), found, expected));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shown_from_its_first_difference() {
        let mut expected = vec![b'a'; 5_000];
        let mut found = expected.clone();
        expected[3_000] = b'x';
        found.truncate(4_000);
        let (expected, found) = (String::from_utf8(expected).unwrap(), String::from_utf8(found).unwrap());
        let text = Failure::unequal("it", &found, &expected).to_string();
        assert!(text.contains("from character 3001 on") && text.contains("xaaa") && text.len() < 500, "{text}");
        let text = Failure::unequal("it", &1, &2).to_string();
        assert_eq!(text, "it: expected 2, found 1");
    }
}
