//! The driver's errors as kinds of the contract.
//!
//! The driver is sled. This module also converts errors of the file system.

use std::io;

use kv_core::adapter::ErrorContext;
use kv_core::{Error, ErrorKind};

/// The backend's name in errors and in [`StoreInfo`](kv_core::StoreInfo).
pub(crate) const NAME: &str = "sled";

/// Adds the backend, the operation and the key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// Returns the kind of an error of sled, if nothing was written.
///
/// sled keeps the first error of its background threads and returns a copy of that error from every later call. A copy
/// of an I/O error has the same kind and a text, but not the error number of the operating system.
pub(crate) fn kind(error: &sled::Error) -> ErrorKind {
    match error {
        // The tree was dropped, the files have the format of another version of sled, or sled has found damage.
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::Corruption { .. } => {
            ErrorKind::Corrupt
        }
        sled::Error::ReportableBug(_) => ErrorKind::Unavailable,
        sled::Error::Io(error) => io_kind(error),
    }
}

/// Returns the kind of an error of the file system.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::FileTooLarge
        | io::ErrorKind::OutOfMemory => ErrorKind::Capacity,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        io::ErrorKind::NotFound
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::Interrupted
        | io::ErrorKind::TimedOut => ErrorKind::Unavailable,
        // Stable Rust has no kind for these two errors. Check the error number, or the number in the text of a copy.
        _ if has_number(error, &OUT_OF_DESCRIPTORS) => ErrorKind::Capacity,
        _ if has_number(error, &LOOP_OF_LINKS) => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

/// The error numbers `ENFILE` and `EMFILE`.
const OUT_OF_DESCRIPTORS: [i32; 2] = [23, 24];
/// The error number `ELOOP` on Linux.
const LOOP_OF_LINKS: [i32; 1] = [40];

fn has_number(error: &io::Error, numbers: &[i32]) -> bool {
    if let Some(number) = error.raw_os_error() {
        return numbers.contains(&number);
    }
    let text = error.to_string();
    numbers.iter().any(|number| text.contains(&format!("code: {number},")))
}

/// True if another store, in this process or another, has locked the files.
pub(crate) fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// True if sled must not be used any more after the error.
///
/// If sled fails to write a large value to a separate file, sled leaves a gap in the log. The gap is never filled, so
/// the next flush waits for ever, and holds sled's process-wide lock during this wait (`reserve_inner` in `logger.rs`).
/// A read can also cause such a failure, because a read may split pages.
pub(crate) fn is_fatal(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sled::Error>());
    match source {
        Some(sled::Error::Io(_) | sled::Error::ReportableBug(_) | sled::Error::CollectionNotFound(_)) => true,
        Some(sled::Error::Unsupported(_) | sled::Error::Corruption { .. }) | None => false,
    }
}

/// Converts an error of sled, if nothing was written.
pub(crate) fn from_sled(error: sled::Error) -> Error {
    Error::new(kind(&error), describe(&error)).with_source(error)
}

/// Converts an error of the file system. The text of the result begins with `message`.
pub(crate) fn from_io(error: io::Error, message: &'static str) -> Error {
    Error::new(io_kind(&error), format!("{message}: {error}")).with_source(error)
}

/// Returns the text of an error, without the stored keys and values that sled puts into some error texts.
fn describe(error: &sled::Error) -> String {
    match error {
        sled::Error::CollectionNotFound(_) => "sled no longer finds its tree".to_owned(),
        sled::Error::Unsupported(text) => format!("sled does not support the files: {text}"),
        sled::Error::ReportableBug(text) => format!("sled reports a bug in itself: {text}"),
        sled::Error::Io(error) => format!("sled cannot read or write its files: {error}"),
        sled::Error::Corruption { at: Some(at), .. } => format!("sled has read damaged bytes at {at}"),
        sled::Error::Corruption { at: None, .. } => "sled has read damaged bytes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> sled::Error {
        sled::Error::Io(kind.into())
    }

    #[test]
    fn every_error_of_sled_has_a_kind_and_its_copy_has_the_same_kind() {
        let number = |number| sled::Error::Io(io::Error::from_raw_os_error(number));
        let table = [
            (sled::Error::CollectionNotFound(sled::IVec::default()), ErrorKind::Corrupt),
            (sled::Error::Unsupported("other version".into()), ErrorKind::Corrupt),
            (sled::Error::Corruption { at: None, bt: () }, ErrorKind::Corrupt),
            (sled::Error::ReportableBug("bug".into()), ErrorKind::Unavailable),
            (io(io::ErrorKind::StorageFull), ErrorKind::Capacity),
            (io(io::ErrorKind::QuotaExceeded), ErrorKind::Capacity),
            (io(io::ErrorKind::FileTooLarge), ErrorKind::Capacity),
            (io(io::ErrorKind::OutOfMemory), ErrorKind::Capacity),
            (io(io::ErrorKind::PermissionDenied), ErrorKind::Denied),
            (io(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::Denied),
            (io(io::ErrorKind::InvalidData), ErrorKind::Corrupt),
            (io(io::ErrorKind::UnexpectedEof), ErrorKind::Corrupt),
            (io(io::ErrorKind::NotADirectory), ErrorKind::Invalid),
            (io(io::ErrorKind::NotFound), ErrorKind::Unavailable),
            (io(io::ErrorKind::WouldBlock), ErrorKind::Unavailable),
            (io(io::ErrorKind::Other), ErrorKind::Unavailable),
            (number(28), ErrorKind::Capacity),
            (number(24), ErrorKind::Capacity),
            (number(23), ErrorKind::Capacity),
            (number(40), ErrorKind::Invalid),
            (number(13), ErrorKind::Denied),
            (number(30), ErrorKind::Denied),
            (number(5), ErrorKind::Unavailable),
        ];
        for (error, expected) in table {
            let text = format!("{error:?}");
            assert_eq!(kind(&error), expected, "{text}");
            assert_eq!(kind(&error.clone()), expected, "a copy of {text}");
            assert_eq!(from_sled(error).kind(), expected, "{text}");
        }
    }

    #[test]
    fn errors_do_not_contain_stored_bytes() {
        let error = from_sled(sled::Error::CollectionNotFound(b"canary".into()));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
