//! Reads recorded workloads.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use anykv::{Bytes, Key, KeyPrefix};
use flate2::bufread::MultiGzDecoder;
use kv_lines::line::{self, Line};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::exit::Failure;

/// The maximum length of a line of a recording in bytes.
const MAX_LINE_BYTES: usize = 32 << 20;

/// The operations of a recording, in the order of their issue.
#[derive(Debug, Clone)]
pub struct Workload {
    pub(super) operations: Vec<Operation>,
}

/// A recorded operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// The line number in the file.
    pub(super) line: u64,
    pub(super) step: Step,
}

/// The call of an operation. Values are stored as JSON text.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Get { key: Key },
    Set { key: Key, value: Bytes, ttl: Option<Duration> },
    Delete { key: Key },
    Cas { key: Key, expected: Option<Bytes>, value: Option<Bytes>, ttl: Option<Duration> },
    List { prefix: KeyPrefix },
}

impl Step {
    /// Returns the text of the key or prefix. This text decides the client that runs the operation.
    pub(super) fn partition_key(&self) -> &str {
        match self {
            Self::Get { key } | Self::Set { key, .. } | Self::Delete { key } | Self::Cas { key, .. } => key.as_str(),
            Self::List { prefix } => prefix.as_str().unwrap_or_default(),
        }
    }
}

/// A line of the file. The results of the recorded run are not read.
#[derive(Debug, Deserialize)]
struct Record {
    op: String,
    key: Vec<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    expected: Option<Value>,
    ttl: Option<u64>,
}

/// Deserializes a field that is present, even if it is `null`. JSON `null` is a value, and a missing field is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Workload {
    /// Reads a recording, plain or gzip, up to `limit` operations.
    ///
    /// # Errors
    /// [`Failure::Format`] with the line number; [`Failure::Io`].
    pub fn read(source: impl Read, limit: Option<usize>) -> Result<Self, Failure> {
        let mut reader = BufReader::new(source);
        let start = reader.fill_buf().map_err(Failure::io("reading the workload"))?;
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::read_plain(BufReader::new(MultiGzDecoder::new(reader)), limit)
        } else {
            Self::read_plain(reader, limit)
        }
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// True if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn read_plain(mut reader: impl BufRead, limit: Option<usize>) -> Result<Self, Failure> {
        let mut operations = Vec::new();
        let mut text = Vec::new();
        let mut line = 0;
        while limit.is_none_or(|limit| operations.len() < limit) {
            line += 1;
            let error = |problem: &str| Failure::Format(format!("line {line}: {problem}"));
            match line::read(&mut reader, &mut text, MAX_LINE_BYTES).map_err(Failure::io("reading the workload"))? {
                Line::End => break,
                Line::TooLong => return Err(error(&format!("the line is longer than {MAX_LINE_BYTES} bytes"))),
                Line::Read | Line::Unterminated => {}
            }
            let record: Record = serde_json::from_slice(&text).map_err(|cause| error(&cause.to_string()))?;
            let step = record.into_step().map_err(|problem| error(&problem))?;
            operations.push(Operation { line, step });
        }
        Ok(Self { operations })
    }
}

impl Record {
    fn into_step(self) -> Result<Step, String> {
        let Self { op, key, value, expected, ttl } = self;
        if op == "list" {
            let prefix = KeyPrefix::new(key).map_err(|error| error.to_string())?;
            return Ok(Step::List { prefix });
        }
        let key = Key::new(key).map_err(|error| error.to_string())?;
        let text = |value: Value| Bytes::from(value.to_string());
        let ttl = ttl.map(Duration::from_millis);
        match op.as_str() {
            "get" => Ok(Step::Get { key }),
            "set" => match value {
                Some(value) => Ok(Step::Set { key, value: text(value), ttl }),
                None => Err("a set needs a `value`".to_owned()),
            },
            "delete" => Ok(Step::Delete { key }),
            "cas" => Ok(Step::Cas { key, expected: expected.map(text), value: value.map(text), ttl }),
            _ => Err(format!("unknown operation `{op}`, expected get, set, delete, cas or list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_a_value_and_a_missing_field_is_none() {
        let lines = concat!(
            r#"{"t":1,"op":"set","key":["a"],"value":null,"ttl":null,"bytes":4}"#,
            "\n",
            r#"{"t":2,"op":"cas","key":["a"],"expected":null,"ttl":300000,"ok":true}"#,
            "\n",
            r#"{"t":3,"op":"cas","key":["a"],"value":{"b":1},"ok":true}"#,
        );
        let workload = Workload::read(lines.as_bytes(), None).unwrap();
        let [set, delete, create] = &workload.operations[..] else { panic!("{workload:?}") };
        assert!(matches!(&set.step, Step::Set { value, ttl: None, .. } if value == "null"));
        assert!(matches!(&delete.step, Step::Cas { expected: Some(expected), value: None, .. } if expected == "null"));
        assert!(matches!(&create.step, Step::Cas { expected: None, value: Some(value), .. } if value == r#"{"b":1}"#));
    }

    #[test]
    fn an_error_has_the_line_number() {
        let error = Workload::read(&b"{\"op\":\"get\",\"key\":[\"a\"]}\n{\"op\":\"incr\",\"key\":[\"a\"]}\n"[..], None);
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("line 2: unknown operation `incr`"), "{message}");
    }
}
