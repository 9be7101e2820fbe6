//! From a file to a store.

use std::io::BufRead;
use std::sync::Arc;

use anykv::KvStore;
use kv_lines::line::{self, Line};
use serde::de::DeserializeOwned;

use super::format::{Footer, Header, Read};
use super::writer::Writer;
use crate::exit::Failure;
use crate::progress::Progress;

/// The longest line of a file: a value of 16 MiB fits however it is written.
const MAX_LINE_BYTES: usize = 128 << 20;

/// Writes the entries of an export, over what is there, and tells how many there were.
///
/// The store judges deadlines: an entry whose deadline has passed is absent afterwards. Entries are written while the file
/// is read, so a file that turns out to be damaged has been imported up to there.
///
/// # Errors
/// [`Failure::Format`], naming the line, for a file that is no export, of a later format, damaged or cut off;
/// [`Failure::Io`] where it cannot be read; [`Failure::Store`].
pub async fn import(
    store: &Arc<dyn KvStore>,
    source: &mut (dyn BufRead + Send),
    progress: &Progress,
) -> Result<u64, Failure> {
    let mut reader = Reader { source, line: Vec::new(), number: 0 };
    reader.header()?;
    let mut writer = Writer::new(store, progress);
    let mut read = 0;
    loop {
        if !reader.advance()? {
            return Err(reader.wrong("the file ends before its last line: it was cut off"));
        }
        if reader.line.starts_with(br#"{"end":"#) {
            break;
        }
        let item = reader.parse::<Read>()?.into_item().map_err(|problem| reader.wrong(&problem))?;
        writer.push(item).await?;
        read += 1;
    }
    let Footer { end } = reader.parse()?;
    if end.entries != read {
        return Err(reader.wrong(&format!("the file has {read} entries and should have {}", end.entries)));
    }
    if reader.advance()? {
        return Err(reader.wrong("there is more behind the last line"));
    }
    writer.flush().await?;
    Ok(writer.written())
}

struct Reader<'r> {
    source: &'r mut (dyn BufRead + Send),
    line: Vec<u8>,
    number: u64,
}

impl Reader<'_> {
    /// Reads the next line; `false` at the end.
    fn advance(&mut self) -> Result<bool, Failure> {
        self.number += 1;
        match line::read(&mut self.source, &mut self.line, MAX_LINE_BYTES).map_err(Failure::io("reading the import"))? {
            Line::Read | Line::Unended => Ok(true),
            Line::End => Ok(false),
            Line::TooLong => Err(self.wrong(&format!("the line is longer than {MAX_LINE_BYTES} bytes"))),
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
                Err(self.wrong(&format!("the export is of format version {version}; this program reads {known}")))
            }
            _ => Err(self.wrong("the file is no export: it does not start with its header")),
        }
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.line).map_err(|error| self.wrong(&error.to_string()))
    }

    fn wrong(&self, problem: &str) -> Failure {
        Failure::Format(format!("line {}: {problem}", self.number))
    }
}
