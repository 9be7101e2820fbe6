//! The file: a sequence of records. The last record of a key is valid.
//!
//! A record is the length of the key's text and the length of the payload, each as four bytes in big-endian order, then
//! the text and the payload. The payload is header and value as `kv_core::stored` encodes them, or empty if the key was
//! deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use kv_core::{Bytes, Error, Key, Result, stored};

use crate::entries::{Entries, StoredEntry};

/// The maximum number of bytes of a key and of a payload. A larger length in the file is damaged. Because of the limit,
/// such a length allocates no memory.
const MAX_BYTES: u32 = 32 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens the file and reads it. Creates the file and its parent directories if they do not exist. Truncates an
    /// incomplete record at the end, which a crash during a write leaves.
    pub(crate) fn open(path: &Path) -> Result<(Self, Entries)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::unavailable("another store has the file open"),
            TryLockError::Error(error) => failed(error),
        })?;
        let mut journal = Self { file, length: 0 };
        let entries = journal.read()?;
        journal.file.set_len(journal.length).map_err(failed)?;
        journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok((journal, entries))
    }

    /// Appends a record: an entry or, for `None`, a deletion.
    ///
    /// # Errors
    /// `Invalid` if the key is too long to be read again, and the errors of writing.
    pub(crate) fn append(&mut self, key: &Key, entry: Option<&StoredEntry>) -> Result<()> {
        // A key that `read` refuses would make the file unreadable. A namespace in a namespace can make a key too long.
        Key::parse_stored(key.as_str())?;
        let payload =
            entry.map_or_else(Vec::new, |entry| stored::encode(key, &entry.version, entry.deadline, &entry.value));
        let text = key.as_str().as_bytes();
        let mut record = Vec::with_capacity(8 + text.len() + payload.len());
        record.extend_from_slice(&length(text)?);
        record.extend_from_slice(&length(&payload)?);
        record.extend_from_slice(text);
        record.extend_from_slice(&payload);
        if let Err(error) = self.file.write_all(&record) {
            // Remove the part of the record that was written.
            self.file.set_len(self.length).map_err(failed)?;
            self.file.seek(SeekFrom::End(0)).map_err(failed)?;
            return Err(failed(error));
        }
        self.length += record.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(failed)
    }

    fn read(&mut self) -> Result<Entries> {
        let mut entries = Entries::default();
        let mut reader = BufReader::new(&self.file);
        while let Some((text, payload)) = record(&mut reader).map_err(failed)? {
            self.length += 8 + (text.len() + payload.len()) as u64;
            let text = String::from_utf8(text).map_err(|_| Error::corrupt("a key in the file is not UTF-8"))?;
            // A namespace can make a stored key longer than `Key::parse` accepts.
            let key = Key::parse_stored(&text).map_err(|_| Error::corrupt("a key in the file is not canonical"))?;
            if payload.is_empty() {
                entries.remove(&key);
                continue;
            }
            let (entry, deadline) = stored::decode(&key, Bytes::from(payload))?;
            let version = entry.version.ok_or_else(|| Error::corrupt("an entry in the file has no version"))?;
            entries.insert(key, StoredEntry { value: entry.value, version, deadline });
        }
        Ok(entries)
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_BYTES);
    length.map(u32::to_be_bytes).ok_or_else(|| Error::invalid("the record is too long"))
}

/// Reads the next record. Returns `None` at the end of the file, even if the file ends in the middle of a record.
fn record(reader: &mut impl Read) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (Some(key_length), Some(payload_length)) = (number(reader)?, number(reader)?) else { return Ok(None) };
    if key_length > MAX_BYTES || payload_length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the length of a record in the file is out of range"));
    }
    let (Some(key), Some(payload)) = (bytes(reader, key_length)?, bytes(reader, payload_length)?) else {
        return Ok(None);
    };
    Ok(Some((key, payload)))
}

fn number(reader: &mut impl Read) -> io::Result<Option<u32>> {
    let read = bytes(reader, 4)?;
    Ok(read.and_then(|read| read.try_into().ok()).map(u32::from_be_bytes))
}

/// Reads `count` bytes. Returns `None` if the file has fewer bytes.
fn bytes(reader: &mut impl Read, count: u32) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    reader.take(count.into()).read_to_end(&mut read)?;
    Ok((read.len() == count as usize).then_some(read))
}

/// Converts an error of the driver to the kind that tells the caller how to react (clause E-1).
fn failed(error: io::Error) -> Error {
    let classified = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::capacity("the file cannot grow"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("the permissions of the file deny access")
        }
        io::ErrorKind::InvalidData => Error::corrupt("the file is damaged or belongs to another program"),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Error::invalid("the path is not that of a file"),
        _ => Error::unavailable("the file cannot be read or written"),
    };
    classified.with_source(error)
}
