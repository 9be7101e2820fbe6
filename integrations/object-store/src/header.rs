//! The header of an object.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use kv_core::Entry;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectMeta};
use serde::{Deserialize, Serialize};

use crate::error::{Result, generic};

/// The first line of an object's entry, as JSON. The bytes of a small object follow this line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The time of the write, in microseconds since the Unix epoch.
    modified: i64,
    pub(crate) size: u64,
    attributes: Vec<(String, String)>,
    /// The chunks of a large object; `None` if the bytes follow the header.
    #[serde(rename = "pieces")]
    pub(crate) chunks: Option<Chunks>,
}

/// The entries that hold the bytes of one object, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Chunks {
    pub(crate) id: String,
    pub(crate) count: usize,
}

impl Header {
    pub(crate) fn new(size: usize, attributes: &Attributes, chunks: Option<Chunks>) -> Self {
        let attributes =
            attributes.iter().map(|(attribute, value)| (name(attribute), value.as_ref().to_owned())).collect();
        Self { modified: Utc::now().timestamp_micros(), size: size as u64, attributes, chunks }
    }

    pub(crate) fn encode(&self, inline: &[u8]) -> Result<Bytes> {
        let mut stored = serde_json::to_vec(self).map_err(generic)?;
        stored.push(b'\n');
        stored.extend_from_slice(inline);
        Ok(stored.into())
    }

    /// Returns the header and the bytes after it.
    pub(crate) fn decode(stored: &Bytes) -> Result<(Self, Bytes)> {
        let end = stored.iter().position(|byte| *byte == b'\n').ok_or_else(|| generic("an entry has no header"))?;
        let header = serde_json::from_slice(&stored.slice(..end)).map_err(generic)?;
        Ok((header, stored.slice(end + 1..)))
    }

    pub(crate) fn meta(&self, location: &Path, entry: &Entry) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            location: location.clone(),
            last_modified: DateTime::from_timestamp_micros(self.modified)
                .ok_or_else(|| generic("the time of an entry is out of range"))?,
            size: self.size,
            e_tag: entry.version.map(|version| version.to_string()),
            version: None,
        })
    }

    pub(crate) fn attributes(&self) -> Result<Attributes> {
        self.attributes.iter().map(|(name, value)| Ok((attribute(name)?, value.clone()))).collect()
    }
}

/// The names of the attributes in a stored header.
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
        known => NAMES
            .iter()
            .find(|(attribute, _)| attribute == known)
            .map_or_else(String::new, |(_, name)| (*name).to_owned()),
    }
}

fn attribute(text: &str) -> Result<Attribute> {
    if let Some(name) = text.strip_prefix("metadata ") {
        return Ok(Attribute::Metadata(name.to_owned().into()));
    }
    let known = NAMES.iter().find(|(_, name)| *name == text).map(|(attribute, _)| attribute.clone());
    known.ok_or_else(|| generic(format!("the attribute `{text}` is unknown")))
}
