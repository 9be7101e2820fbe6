//! The JSON form of pages of a list.

use kv_core::{Error, ListItem, ListPage, Result};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, decode_entry, encode_entry};
use super::error::Failure;
use super::key::Segments;

/// A key of a list, with its entry unless the request had `keys_only`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    #[serde(flatten)]
    entry: Option<Entry>,
    key: Segments,
}

impl From<&ListItem> for Item {
    fn from(ListItem { key, entry }: &ListItem) -> Self {
        Self { entry: encode_entry(entry.as_ref()), key: key.into() }
    }
}

impl Item {
    pub(crate) fn into_item(self) -> Result<ListItem> {
        Ok(ListItem { key: self.key.key()?, entry: decode_entry(self.entry)? })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    /// The entries of the page that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<Damaged>,
    pub(crate) next: Option<Segments>,
}

impl From<&ListPage> for Page {
    fn from(ListPage { items, damaged, next }: &ListPage) -> Self {
        Self {
            items: items.iter().map(Item::from).collect(),
            damaged: damaged.iter().map(Damaged::from).collect(),
            next: next.as_ref().map(Segments::from),
        }
    }
}

impl Page {
    pub(crate) fn into_page(self) -> Result<ListPage> {
        let Self { items, damaged, next } = self;
        Ok(ListPage {
            items: items.into_iter().map(Item::into_item).collect::<Result<_>>()?,
            damaged: damaged.into_iter().map(Damaged::into_error).collect::<Result<_>>()?,
            next: next.as_ref().map(Segments::key).transpose()?,
        })
    }
}

/// The error of an entry that a list cannot read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Damaged {
    key: Option<Segments>,
    error: Failure,
}

impl From<&Error> for Damaged {
    fn from(error: &Error) -> Self {
        Self { key: error.key().map(Segments::from), error: error.into() }
    }
}

impl Damaged {
    fn into_error(self) -> Result<Error> {
        let error = self.error.into_error();
        Ok(match self.key {
            Some(key) => error.with_key(&key.key()?),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Key, Version};

    use super::*;

    #[test]
    fn an_item_round_trips_with_and_without_its_entry() {
        let key = Key::new(["a", "b"]).unwrap();
        for entry in [None, Some(kv_core::Entry::new(&b"\xff"[..]).with_version(Version::random()))] {
            let item = ListItem { key: key.clone(), entry };
            let line = serde_json::to_string(&Item::from(&item)).unwrap();
            assert_eq!(serde_json::from_str::<Item>(&line).unwrap().into_item().unwrap(), item, "{line}");
        }
    }
}
