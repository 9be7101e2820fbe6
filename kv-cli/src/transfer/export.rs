//! From a store to a file.

use std::io::{self, Write};
use std::sync::Arc;

use anykv::{Capability, Entry, Error, Key, KeyPrefix, KvStore, ListQuery};
use kv_lines::escape;
use serde::Serialize;

use super::format::{End, Footer, Header, Written, is_exact};
use crate::exit::Failure;
use crate::pages::Pages;
use crate::progress::Progress;

/// Writes every entry under the prefix, in key order, and tells how many there were.
///
/// The pages of a list are no snapshot: an entry that is written meanwhile is exported as it was before or after.
///
/// # Errors
/// [`Failure::Store`], `Unsupported` where the store cannot list, or cannot tell deadlines; what the output gives.
pub async fn export(
    store: &Arc<dyn KvStore>,
    prefix: KeyPrefix,
    out: &mut (dyn Write + Send),
    progress: &Progress,
) -> Result<u64, Failure> {
    let mut file = ExportWriter::begin(out)?;
    let mut pages = Pages::new(Arc::clone(store), ListQuery::new(prefix));
    while let Some(items) = pages.next().await? {
        for item in &items {
            let entry = item.entry.as_ref().filter(|entry| is_exact(entry));
            file.entry(&item.key, entry.ok_or_else(|| Error::unsupported(Capability::Deadlines))?)?;
        }
        progress.advance(items.len());
    }
    Ok(file.end()?.0)
}

/// An export that is being written, entry by entry.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    entries: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Writes the first line.
    ///
    /// # Errors
    /// What the output gives, as of every method.
    pub fn begin(out: W) -> Result<Self, Failure> {
        let mut file = Self { out, entries: 0 };
        file.line(&Header::new())?;
        Ok(file)
    }

    /// Writes the line of an entry.
    ///
    /// # Errors
    /// As [`ExportWriter::begin`].
    pub fn entry(&mut self, key: &Key, entry: &Entry) -> Result<(), Failure> {
        self.entries += 1;
        self.line(&Written::new(key, entry))
    }

    /// Writes the last line, without which an export counts as cut off, and gives how many entries there are and the output,
    /// flushed.
    ///
    /// # Errors
    /// As [`ExportWriter::begin`].
    pub fn end(mut self) -> Result<(u64, W), Failure> {
        let entries = self.entries;
        self.line(&Footer { end: End { entries } })?;
        self.out.flush().map_err(Failure::output)?;
        Ok((entries, self.out))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(line).map_err(|error| Failure::output(io::Error::from(error)))?;
        writeln!(self.out, "{}", escape::json(text)).map_err(Failure::output)
    }
}
