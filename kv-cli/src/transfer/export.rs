//! From a store to a file.

use std::io::{self, Write};
use std::sync::Arc;

use anykv::{Capability, Error, KeyPrefix, KvStore, ListQuery};
use serde::Serialize;

use super::format::{End, Footer, Header, Written, is_exact};
use crate::escape;
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
    write_line(out, &Header::new())?;
    let mut entries = 0;
    let mut pages = Pages::new(Arc::clone(store), ListQuery::new(prefix));
    while let Some(items) = pages.next().await? {
        for item in &items {
            let entry = item.entry.as_ref().filter(|entry| is_exact(entry));
            let entry = entry.ok_or_else(|| Error::unsupported(Capability::Deadlines))?;
            write_line(out, &Written::new(&item.key, entry))?;
            entries += 1;
        }
        progress.advance(items.len());
    }
    write_line(out, &Footer { end: End { entries } })?;
    out.flush().map_err(Failure::output)?;
    Ok(entries)
}

fn write_line(out: &mut (dyn Write + Send), line: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(line).map_err(|error| Failure::output(io::Error::from(error)))?;
    writeln!(out, "{}", escape::json(text)).map_err(Failure::output)
}
