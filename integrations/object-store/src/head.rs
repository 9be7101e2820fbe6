//! What is stored of an object beside its bytes.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use kv_core::Entry;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectMeta};
use serde::{Deserialize, Serialize};

use crate::store::{Result, generic};

/// The first line of an object's entry, as JSON. The bytes of a small object stand behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    /// When it was written, in microseconds since the Unix epoch.
    modified: i64,
    pub(crate) size: u64,
    attributes: Vec<(String, String)>,
    /// Where the bytes of a large object are.
    pub(crate) pieces: Option<Pieces>,
}

/// Entries that hold the bytes of one object, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pieces {
    pub(crate) id: String,
    pub(crate) count: usize,
}

impl Head {
    pub(crate) fn new(size: usize, attributes: &Attributes, pieces: Option<Pieces>) -> Self {
        let attributes =
            attributes.iter().map(|(attribute, value)| (name(attribute), value.as_ref().to_owned())).collect();
        Self { modified: Utc::now().timestamp_micros(), size: size as u64, attributes, pieces }
    }

    pub(crate) fn encode(&self, inline: &[u8]) -> Result<Bytes> {
        let mut stored = serde_json::to_vec(self).map_err(generic)?;
        stored.push(b'\n');
        stored.extend_from_slice(inline);
        Ok(stored.into())
    }

    /// The head and what stands behind it.
    pub(crate) fn decode(stored: &Bytes) -> Result<(Self, Bytes)> {
        let end = stored.iter().position(|byte| *byte == b'\n').ok_or_else(|| generic("an entry without a head"))?;
        let head = serde_json::from_slice(&stored.slice(..end)).map_err(generic)?;
        Ok((head, stored.slice(end + 1..)))
    }

    pub(crate) fn meta(&self, location: &Path, entry: &Entry) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            location: location.clone(),
            last_modified: DateTime::from_timestamp_micros(self.modified).ok_or_else(|| generic("no such time"))?,
            size: self.size,
            e_tag: entry.version.map(|version| version.to_string()),
            version: None,
        })
    }

    pub(crate) fn attributes(&self) -> Result<Attributes> {
        self.attributes.iter().map(|(name, value)| Ok((attribute(name)?, value.clone()))).collect()
    }
}

const NAMES: &[(Attribute, &str)] = &[
    (Attribute::ContentDisposition, "content-disposition"),
    (Attribute::ContentEncoding, "content-encoding"),
    (Attribute::ContentLanguage, "content-language"),
    (Attribute::ContentType, "content-type"),
    (Attribute::CacheControl, "cache-control"),
    (Attribute::StorageClass, "storage-class"),
];

fn name(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Metadata(name) => format!("metadata {name}"),
        known => {
            NAMES.iter().find(|(named, _)| named == known).map_or_else(String::new, |(_, name)| (*name).to_owned())
        }
    }
}

fn attribute(text: &str) -> Result<Attribute> {
    if let Some(name) = text.strip_prefix("metadata ") {
        return Ok(Attribute::Metadata(name.to_owned().into()));
    }
    let known = NAMES.iter().find(|(_, name)| *name == text).map(|(attribute, _)| attribute.clone());
    known.ok_or_else(|| generic(format!("no attribute is called {text}")))
}
