//! The file: one record behind the other, of which the last for a key counts.
//!
//! A record is the length of the key's text, the length of what is stored, both as four bytes in big-endian order, the text and
//! what is stored: the header and value of `kv_core::stored`, or nothing where the key was deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use kv_core::{Bytes, Error, Key, Result, stored};

use crate::entries::{Entries, Held};

/// A larger record is damage: its length is not believed, and no memory is taken for it.
const MAX_BYTES: u32 = 32 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens the file, or creates it with the folder that it is in, and reads it. What a sudden end left half written at its
    /// end is cut off.
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

    /// Puts a record behind the others. `None`: the key is deleted.
    pub(crate) fn append(&mut self, key: &Key, held: Option<&Held>) -> Result<()> {
        let stored = held.map_or_else(Vec::new, |held| stored::encode(key, &held.version, held.deadline, &held.value));
        let text = key.as_str().as_bytes();
        let mut record = Vec::with_capacity(8 + text.len() + stored.len());
        record.extend_from_slice(&length(text)?);
        record.extend_from_slice(&length(&stored)?);
        record.extend_from_slice(text);
        record.extend_from_slice(&stored);
        if let Err(error) = self.file.write_all(&record) {
            // Nothing is half there: what was written of the record goes again.
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
        while let Some((text, stored)) = record(&mut reader).map_err(failed)? {
            self.length += 8 + (text.len() + stored.len()) as u64;
            let text = String::from_utf8(text).map_err(|_| Error::corrupt("a key in the file is no text"))?;
            let key = Key::parse(&text).map_err(|_| Error::corrupt("a key in the file is not canonical"))?;
            if stored.is_empty() {
                entries.remove(&key);
                continue;
            }
            let (entry, deadline) = stored::decode(&key, Bytes::from(stored))?;
            let version = entry.version.ok_or_else(|| Error::corrupt("an entry in the file has no version"))?;
            entries.insert(key, Held { value: entry.value, version, deadline });
        }
        Ok(entries)
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_BYTES);
    length.map(u32::to_be_bytes).ok_or_else(|| Error::invalid("the record is too long"))
}

/// The next record, unless the file ends, be it in the middle of one.
fn record(reader: &mut impl Read) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (Some(key), Some(stored)) = (number(reader)?, number(reader)?) else { return Ok(None) };
    if key > MAX_BYTES || stored > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a record in the file has no length that it can have"));
    }
    let (Some(key), Some(stored)) = (bytes(reader, key)?, bytes(reader, stored)?) else { return Ok(None) };
    Ok(Some((key, stored)))
}

fn number(reader: &mut impl Read) -> io::Result<Option<u32>> {
    let read = bytes(reader, 4)?;
    Ok(read.and_then(|read| read.try_into().ok()).map(u32::from_be_bytes))
}

/// So many bytes, unless the file has fewer.
fn bytes(reader: &mut impl Read, count: u32) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    reader.take(count.into()).read_to_end(&mut read)?;
    Ok((read.len() == count as usize).then_some(read))
}

/// Every error of the driver is classified by what the caller can do about it (clause E-1).
fn failed(error: io::Error) -> Error {
    let told = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::capacity("the file cannot grow"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("the file may not be used")
        }
        io::ErrorKind::InvalidData => Error::corrupt("the file is damaged, or another program's"),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Error::invalid("the path leads to no file"),
        _ => Error::unavailable("the file could not be used"),
    };
    told.with_source(error)
}
