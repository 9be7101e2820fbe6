//! How a case says what is wrong.

use std::fmt::{self, Debug};

/// What a case ends with.
pub(crate) type Verdict = Result<(), Failure>;

/// Why a case failed: what was expected and what came instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Two things that should be equal and are not.
    pub(crate) fn unequal(what: &str, found: &dyn Debug, expected: &dyn Debug) -> Self {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        let text = match parting(&expected, &found) {
            Some((at, expected, found)) => format!("from character {at} on: expected {expected}, found {found}"),
            None => format!("expected {}, found {}", shortened(&expected), shortened(&found)),
        };
        Self::new(format!("{what}: {text}"))
    }
}

/// The store failed where the case expected an answer.
impl From<kv_core::Error> for Failure {
    fn from(error: kv_core::Error) -> Self {
        let mut message = format!("the store failed: {error}");
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

/// How much of a text is shown.
const MOST: usize = 400;

/// Large values would bury the rest.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} characters in all)", text.get(..end).unwrap_or_default(), text.len()),
        None => text.to_owned(),
    }
}

/// Where two long texts first differ, and what each has there: what is shown of them from the start would be the same.
fn parting(expected: &str, found: &str) -> Option<(usize, String, String)> {
    const BEFORE: usize = 20;
    let at = expected.chars().zip(found.chars()).take_while(|(one, other)| one == other).count();
    if at < MOST {
        return None;
    }
    let from = |text: &str| {
        let part: String = text.chars().skip(at - BEFORE).take(MOST / 4).collect();
        format!("…{part}… ({} characters in all)", text.len())
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

/// Fails the case unless both are equal: `ensure_eq!(found, expected, "what it is")`.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if !(*found == *expected) {
                    return Err($crate::failure::Failure::unequal(&format!($($what)+), found, expected));
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
    fn what_differs_is_shown_however_long_the_rest() {
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
