//! The recorded traffic.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One operation. Values are JSON texts.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of the recording, which workloads/README.md describes")]
pub enum Step {
    Get { key: Vec<String> },
    Set { key: Vec<String>, value: Bytes, ttl: Option<Duration> },
    Delete { key: Vec<String> },
    Cas { key: Vec<String>, expected: Option<Bytes>, value: Option<Bytes>, ttl: Option<Duration> },
    List { prefix: Vec<String> },
}

/// The operations of each client, in order.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The operations by client. All operations of a key belong to one client.
    pub clients: Vec<Vec<Step>>,
}

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

/// Deserializes a present field to `Some`, even if the field is `null`, because JSON's `null` is a value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Trace {
    /// Reads a recording and distributes its operations to the clients by key.
    ///
    /// # Panics
    /// The file is missing or not a recording.
    pub fn read(path: &Path, clients: usize) -> Self {
        let mut text = String::new();
        let mut file = flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap());
        file.read_to_string(&mut text).unwrap();
        let mut parts = vec![Vec::new(); clients];
        for line in BufReader::new(text.as_bytes()).lines() {
            let record: Record = serde_json::from_str(&line.unwrap()).unwrap();
            let mut hasher = DefaultHasher::new();
            record.key.hash(&mut hasher);
            let part = usize::try_from(hasher.finish() % clients as u64).unwrap();
            parts[part].push(record.into_step());
        }
        Self { clients: parts }
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }

    /// True if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Record {
    fn into_step(self) -> Step {
        let Self { op, key, value, expected, ttl } = self;
        let text = |value: Value| Bytes::from(value.to_string());
        let ttl = ttl.map(Duration::from_millis);
        match op.as_str() {
            "get" => Step::Get { key },
            "set" => Step::Set { key, value: text(value.unwrap()), ttl },
            "delete" => Step::Delete { key },
            "cas" => Step::Cas { key, expected: expected.map(text), value: value.map(text), ttl },
            _ => Step::List { prefix: key },
        }
    }
}
