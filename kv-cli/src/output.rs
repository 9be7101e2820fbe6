//! The output of commands: data on stdout, as text or JSON, and messages on stderr.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};

use anykv::{Key, KeyPrefix};
use serde::Serialize;

use crate::args::Format;
use crate::escape::{self, Layout};
use crate::exit::Failure;

/// The output of one command.
pub(crate) struct Output {
    format: Format,
    is_terminal: bool,
    out: BufWriter<Box<dyn Write + Send>>,
}

impl Output {
    pub(crate) fn stdout(format: Format) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self { format, is_terminal, out: BufWriter::new(Box::new(stdout)) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes one JSON value as a line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::output(error.into()))?;
        self.line(&kv_lines::escape::json(text))
    }

    /// Writes a line of text, which must be safe for a terminal.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::output)
    }

    /// Writes a value. A file or a pipe gets only the bytes. A terminal gets escaped text and a line break.
    pub(crate) fn value(&mut self, value: &[u8]) -> Result<(), Failure> {
        if !self.is_terminal {
            return self.out.write_all(value).map_err(Failure::output);
        }
        let text = escape::bytes(value, Layout::Block);
        self.line(text.trim_end_matches('\n'))
    }

    /// Returns the canonical text of a key, escaped for a terminal.
    pub(crate) fn key<'k>(&self, key: &'k Key) -> Cow<'k, str> {
        if self.is_terminal { escape::text(key.as_str(), Layout::Line) } else { Cow::Borrowed(key.as_str()) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }

    /// Returns the underlying stream.
    pub(crate) fn stream(&mut self) -> &mut (dyn Write + Send) {
        &mut self.out
    }
}

/// Prints a message on stderr. Ignores errors: a closed stderr must not stop the command.
pub(crate) fn message(text: &str) {
    let _ = writeln!(io::stderr(), "kv: {}", escape::text(text, Layout::Block));
}

/// Quotes a key for a message.
pub(crate) fn quoted(key: &Key) -> String {
    format!("`{}`", escape::text(key.as_str(), Layout::Line))
}

/// Quotes a prefix for a message.
pub(crate) fn quoted_prefix(prefix: &KeyPrefix) -> String {
    prefix.to_key().map_or_else(|| "all keys".to_owned(), |key| quoted(&key))
}
