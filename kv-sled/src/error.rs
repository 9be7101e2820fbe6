//! What sled's errors mean.

use std::io;

use kv_core::{Error, ErrorKind};

/// The kind that an error of sled stands for, where nothing was written yet.
///
/// sled keeps the first error of its background threads and gives copies of it to every later call. A copy of an I/O error
/// has lost the number that the operating system gave, and keeps its kind and a text.
pub(crate) fn kind(error: &sled::Error) -> ErrorKind {
    match error {
        // The one tree that is used was dropped, or the files were made with another format of sled.
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::Corruption { .. } => {
            ErrorKind::Corrupt
        }
        sled::Error::ReportableBug(_) => ErrorKind::Unavailable,
        sled::Error::Io(error) => io_kind(error),
    }
}

/// The same for an error of the file system.
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
        // Kinds without a name on stable Rust: the number tells, and in a copy the text that was made from it.
        _ if is_out_of_descriptors(error) => ErrorKind::Capacity,
        _ => ErrorKind::Unavailable,
    }
}

/// `EMFILE` and `ENFILE`.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    if let Some(number) = error.raw_os_error() {
        return matches!(number, 23 | 24);
    }
    let text = error.to_string();
    text.contains("code: 24,") || text.contains("code: 23,")
}

/// Whether the files are held by somebody else.
pub(crate) fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// Whether sled must not be used any more after the error.
///
/// What fails to be written to a file of its own leaves a hole in the log that sled waits for at the next flush, without end
/// and with the lock of the whole process (`reserve_inner` in `logger.rs`). Reads can meet it, too: they split pages.
pub(crate) fn is_fatal(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<sled::Error>());
    match source {
        Some(sled::Error::Io(_) | sled::Error::ReportableBug(_) | sled::Error::CollectionNotFound(_)) => true,
        Some(sled::Error::Unsupported(_) | sled::Error::Corruption { .. }) | None => false,
    }
}

/// An error of sled, where nothing was written yet.
pub(crate) fn from_sled(error: sled::Error) -> Error {
    Error::new(kind(&error), describe(&error)).with_source(error)
}

/// An error of the file system.
pub(crate) fn from_io(error: io::Error, what: &'static str) -> Error {
    Error::new(io_kind(&error), format!("{what}: {error}")).with_source(error)
}

/// What the error says, without the stored bytes that sled puts into some texts.
fn describe(error: &sled::Error) -> String {
    match error {
        sled::Error::CollectionNotFound(_) => "sled does not find its tree any more".to_owned(),
        sled::Error::Unsupported(text) => format!("sled refuses the files: {text}"),
        sled::Error::ReportableBug(text) => format!("sled has met a bug of its own: {text}"),
        sled::Error::Io(error) => format!("sled cannot read or write its files: {error}"),
        sled::Error::Corruption { at: Some(at), .. } => format!("sled has met damaged bytes at {at}"),
        sled::Error::Corruption { at: None, .. } => "sled has met damaged bytes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> sled::Error {
        sled::Error::Io(kind.into())
    }

    #[test]
    fn every_error_has_the_kind_that_says_what_to_do() {
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
    fn stored_bytes_are_not_shown() {
        let error = from_sled(sled::Error::CollectionNotFound(b"canary".into()));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
