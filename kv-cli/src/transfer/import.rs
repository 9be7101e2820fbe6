//! Imports an export file into a store.

use std::io::BufRead;
use std::sync::Arc;

use anykv::{Error, KvStore};
use kv_lines::line::{self, Line};
use serde::de::DeserializeOwned;

use super::format::{Footer, Header, ParsedEntry};
use super::writer::Writer;
use crate::exit::Failure;
use crate::progress::Progress;

/// The maximum length of a line in bytes, for a store whose values have at most 16 MiB. A line of this length has space
/// for such a value in any encoding.
const MAX_LINE_BYTES: usize = 128 << 20;

/// Returns the maximum length of a line in bytes. JSON takes up to six bytes for each byte of a value or key, and a key
/// has at most 2,048 bytes.
fn max_line_bytes(store: &dyn KvStore) -> usize {
    let value = store.info().limits.max_value_bytes.saturating_mul(6);
    value.saturating_add(64 << 10).max(MAX_LINE_BYTES)
}

/// Writes the entries of an export to a store, and overwrites existing entries. Returns the number of entries.
///
/// The store applies the deadlines: an entry whose deadline has passed is absent afterwards. Entries are written while
/// the file is read, so the entries before a damaged line may already be written.
///
/// # Errors
/// [`Failure::Format`] with the line number if the file is not an export, has another format version, is damaged or
/// truncated; [`Failure::Io`] if the file cannot be read; [`Failure::Store`]. A value over the store's limit is
/// `Invalid` with the line number.
pub async fn import(
    store: &Arc<dyn KvStore>,
    source: &mut (dyn BufRead + Send),
    progress: &Progress,
) -> Result<u64, Failure> {
    let (limits, max_line_bytes) = (store.info().limits, max_line_bytes(store.as_ref()));
    let mut reader = Reader { source, line: Vec::new(), number: 0, max_line_bytes };
    reader.header()?;
    let mut writer = Writer::new(store, progress);
    let mut entries = 0;
    loop {
        if !reader.advance()? {
            return Err(reader.error("the file is truncated: it has no footer"));
        }
        if reader.line.starts_with(br#"{"end":"#) {
            break;
        }
        let item = reader.parse::<ParsedEntry>()?.into_item().map_err(|problem| reader.error(&problem))?;
        let fits = limits.check_value(item.value.len());
        fits.map_err(|error| {
            Error::invalid(format!("line {}: {}", reader.number, error.message())).with_key(&item.key)
        })?;
        writer.push(item).await?;
        entries += 1;
    }
    let Footer { end } = reader.parse()?;
    if end.entries != entries {
        return Err(reader.error(&format!("the file has {entries} entries instead of {}", end.entries)));
    }
    if reader.advance()? {
        return Err(reader.error("the file continues after its footer"));
    }
    writer.flush().await?;
    Ok(writer.written())
}

struct Reader<'r> {
    source: &'r mut (dyn BufRead + Send),
    line: Vec<u8>,
    number: u64,
    max_line_bytes: usize,
}

impl Reader<'_> {
    /// Reads the next line. Returns false at the end of the file.
    fn advance(&mut self) -> Result<bool, Failure> {
        self.number += 1;
        let limit = self.max_line_bytes;
        match line::read(&mut self.source, &mut self.line, limit).map_err(Failure::io("reading the export"))? {
            Line::Read | Line::Unterminated => Ok(true),
            Line::End => Ok(false),
            Line::TooLong => Err(self.error(&format!("the line is longer than {limit} bytes"))),
        }
    }

    fn header(&mut self) -> Result<(), Failure> {
        let header = if self.advance()? { serde_json::from_slice::<Header>(&self.line).ok() } else { None };
        match header {
            Some(Header { format, version }) if format == Header::FORMAT => {
                if version == Header::VERSION {
                    return Ok(());
                }
                let known = Header::VERSION;
                Err(self.error(&format!("the export has format version {version}; this program reads version {known}")))
            }
            _ => Err(self.error("the file is not an export: it does not start with the header")),
        }
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.line).map_err(|error| self.error(&error.to_string()))
    }

    fn error(&self, problem: &str) -> Failure {
        Failure::Format(format!("line {}: {problem}", self.number))
    }
}
