//! The results of commands and their exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anykv::{Error, ErrorKind};

/// The answer of a command that completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command succeeded.
    Yes,
    /// The answer is no: a missing key, a refused condition, wrong results in a replay.
    No,
}

impl Answer {
    /// Returns `Yes` for true.
    pub(crate) fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
        }
    }
}

/// The error of a command that did not complete.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The command line is invalid.
    Usage(String),
    /// An error of the store.
    Store(Error),
    /// A file, a socket or a standard stream failed.
    Io {
        /// The activity that failed, such as "reading stdin".
        activity: String,
        /// The cause.
        source: io::Error,
    },
    /// The input does not have the expected format.
    Format(String),
    /// SIGINT (Ctrl-C) or SIGTERM interrupted the command.
    Interrupted,
    /// The reader of stdout closed the stream. The program ends without a message.
    OutputClosed,
}

impl Failure {
    /// Returns a function that adds the activity, such as "reading stdin", to an I/O error.
    pub(crate) fn io(activity: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { activity: activity.into(), source }
    }

    /// Fails if `entries` is not zero: the number of damaged entries that a command left out. The command calls this
    /// function after the other entries are processed.
    pub(crate) fn check_damaged(entries: u64) -> Result<(), Self> {
        if entries == 0 {
            return Ok(());
        }
        Err(Error::corrupt(format!("damaged entries that were left out: {entries}")).into())
    }

    /// Converts an error of writing the output. A broken pipe becomes `OutputClosed`.
    pub(crate) fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Io { activity: "writing the output".to_owned(), source }
    }

    /// Returns the exit code. The table in the README lists the codes, which are stable.
    pub fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) => 2,
            Self::Store(error) => match error.kind() {
                ErrorKind::Invalid => 2,
                ErrorKind::Unsupported { .. } => 3,
                ErrorKind::Unavailable => 4,
                ErrorKind::Indeterminate { .. } => 5,
                ErrorKind::Capacity => 6,
                ErrorKind::Denied => 7,
                ErrorKind::Corrupt => 8,
                ErrorKind::Closed => 9,
                ErrorKind::Defect => 13,
                // `kv` has no loader, so only a server can report `Load`.
                _ => 12,
            },
            Self::Io { .. } => 10,
            Self::Format(_) => 11,
            Self::Interrupted => 130,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Format(message) => f.write_str(message),
            Self::Store(error) => {
                let mut message = error.to_string();
                let mut source = std::error::Error::source(error);
                while let Some(cause) = source {
                    let text = cause.to_string();
                    // The text of many errors includes the text of their source.
                    if !message.contains(&text) {
                        message = format!("{message}: {text}");
                    }
                    source = cause.source();
                }
                f.write_str(&message)
            }
            Self::Io { activity, source } => write!(f, "{activity}: {source}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

/// Implements no `source`, because the text includes the causes.
impl std::error::Error for Failure {}

/// Returns the exit code for the result of a command.
pub(crate) fn code(result: &Result<Answer, Failure>) -> ExitCode {
    ExitCode::from(match result {
        Ok(answer) => answer.code(),
        Err(failure) => failure.code(),
    })
}

#[cfg(test)]
mod tests {
    use anykv::Capability;

    use super::*;

    #[test]
    fn exit_codes_match_the_readme() {
        let store = |error: Error| Failure::from(error).code();
        assert_eq!((Answer::Yes.code(), Answer::No.code()), (0, 1));
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(store(Error::invalid("")), 2);
        assert_eq!(store(Error::unsupported(Capability::Watch)), 3);
        assert_eq!(store(Error::unavailable("")), 4);
        assert_eq!(store(Error::indeterminate(None, "")), 5);
        assert_eq!(store(Error::capacity("")), 6);
        assert_eq!(store(Error::denied("")), 7);
        assert_eq!(store(Error::corrupt("")), 8);
        assert_eq!(store(Error::closed()), 9);
        assert_eq!(Failure::io("x")(io::Error::other("y")).code(), 10);
        assert_eq!(Failure::Format(String::new()).code(), 11);
        assert_eq!(store(Error::new(ErrorKind::Load, "")), 12);
        assert_eq!(store(Error::defect("")), 13);
        assert_eq!(Failure::Interrupted.code(), 130);
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()).code(), 0);
        let readme = include_str!("../README.md");
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 130] {
            assert!(readme.contains(&format!("| {code} |")), "{code}");
        }
    }
}
