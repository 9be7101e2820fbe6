//! Errors of the file system as errors of a store.

use std::io;

use crate::error::{Error, ErrorKind};

/// Converts an error of the file system. The kind tells the caller how to react (clause E-1). The error is the source,
/// so that a log shows its text.
///
/// Use this function for reads, for opening, and for writes that were certainly not applied. A failed write that may
/// have been applied is [`Effect::unanswered`](super::Effect::unanswered) instead.
///
/// # Examples
/// ```
/// use std::io;
/// use kv_core::ErrorKind;
/// use kv_core::adapter::io_error;
///
/// assert_eq!(io_error(io::ErrorKind::StorageFull.into()).kind(), ErrorKind::Capacity);
/// assert_eq!(io_error(io::ErrorKind::PermissionDenied.into()).kind(), ErrorKind::Denied);
/// ```
pub fn io_error(error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, message) = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Capacity, "the file system is full"),
        Io::FileTooLarge => (ErrorKind::Capacity, "the file cannot grow"),
        Io::OutOfMemory => (ErrorKind::Capacity, "the memory is exhausted"),
        Io::PermissionDenied => (ErrorKind::Denied, "the permissions of the file deny access"),
        Io::ReadOnlyFilesystem => (ErrorKind::Denied, "the file system is read-only"),
        Io::InvalidData => (ErrorKind::Corrupt, "the file is damaged or belongs to another program"),
        Io::UnexpectedEof => (ErrorKind::Corrupt, "the file is shorter than its content says"),
        Io::IsADirectory | Io::NotADirectory | Io::InvalidFilename => {
            (ErrorKind::Invalid, "the path does not name a file of a store")
        }
        Io::NotFound => (ErrorKind::Unavailable, "the file does not exist"),
        _ => (ErrorKind::Unavailable, "the file system failed"),
    };
    Error::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_tells_the_caller_how_to_react() {
        for (error, kind) in [
            (io::ErrorKind::QuotaExceeded, ErrorKind::Capacity),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Denied),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Corrupt),
            (io::ErrorKind::IsADirectory, ErrorKind::Invalid),
            (io::ErrorKind::Other, ErrorKind::Unavailable),
        ] {
            assert_eq!(io_error(error.into()).kind(), kind, "{error:?}");
        }
    }
}
