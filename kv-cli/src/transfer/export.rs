//! Exports a store to a file.

use std::io::{self, Write};
use std::sync::Arc;

use anykv::{Capability, Entry, Error, Key, KeyPrefix, KvStore, ListQuery};
use kv_lines::escape;
use serde::Serialize;

use super::format::{End, EntryLine, Footer, Header, is_exact};
use crate::exit::Failure;
use crate::pager::Pager;
use crate::progress::Progress;

/// The result of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The number of entries in the export.
    pub entries: u64,
    /// The number of damaged entries, which are not in the export.
    pub damaged: u64,
}

/// Exports every entry under the prefix in key order. Names damaged entries on stderr, and leaves these entries out.
///
/// The export is not a snapshot: it has the old or the new state of an entry that is written during the export.
///
/// # Errors
/// [`Failure::Store`], `Unsupported` if the store cannot list or does not report deadlines; the errors of the output.
pub async fn export(
    store: &Arc<dyn KvStore>,
    prefix: KeyPrefix,
    out: &mut (dyn Write + Send),
    progress: &Progress,
) -> Result<Exported, Failure> {
    let mut file = ExportWriter::begin(out)?;
    let mut pages = Pager::new(Arc::clone(store), ListQuery::new(prefix));
    while let Some(items) = pages.next_page().await? {
        for item in &items {
            let entry = item.entry.as_ref().filter(|entry| is_exact(entry));
            file.entry(&item.key, entry.ok_or_else(|| Error::unsupported(Capability::Deadlines))?)?;
        }
        progress.advance(items.len());
    }
    Ok(Exported { entries: file.end()?.0, damaged: pages.damaged() })
}

/// Writes an export entry by entry.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    entries: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Starts an export: writes the header.
    ///
    /// # Errors
    /// The errors of the output.
    pub fn begin(out: W) -> Result<Self, Failure> {
        let mut file = Self { out, entries: 0 };
        file.line(&Header::new())?;
        Ok(file)
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// The errors of the output.
    pub fn entry(&mut self, key: &Key, entry: &Entry) -> Result<(), Failure> {
        self.entries += 1;
        self.line(&EntryLine::new(key, entry))
    }

    /// Writes the footer, without which an export counts as truncated, and flushes the output. Returns the number of
    /// entries and the output.
    ///
    /// # Errors
    /// The errors of the output.
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
