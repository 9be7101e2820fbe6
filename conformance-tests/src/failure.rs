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
        Self::new(format!("{what}: expected {}, found {}", shortened(expected), shortened(found)))
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

/// Large values would bury the rest.
fn shortened(value: &dyn Debug) -> String {
    const MOST: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes in all)", text.get(..end).unwrap_or_default(), text.len()),
        None => text,
    }
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
