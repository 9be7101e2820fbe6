//! The keys of a namespace in the database.
//!
//! | key | value |
//! |---|---|
//! | `NAMESPACE#{TAG}KEY` | an entry; `TAG` is the hash tag of its bucket, `KEY` its canonical key |
//! | `NAMESPACE!{TAG}` | the index of a bucket: a sorted set of canonical keys, all with the same score |
//! | `NAMESPACE!{TAG}count` | the scratch key of the increment script; exists only while the script runs |
//! | `NAMESPACE!layout` | the record of the layout, written when the namespace was created |
//! | `NAMESPACE!sweeper` | the lease of the handle that sweeps |
//! | `NAMESPACE!DB!CHANNEL` | a channel of messages |
//!
//! In plain format the key of an entry is `NAMESPACE#KEY`, or `KEY` if the namespace is empty. In the name of a
//! namespace, `#` and `!` are escaped, so that no key of one namespace begins with the prefix of another namespace.
//! Braces are escaped, too, because they would form hash tags.

use std::fmt::Write;

use kv_core::{Error, Key, KeyPrefix, Result};

/// The number of slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The kind of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// With an index for each bucket.
    Indexed,
    /// Without indexes, so a list scans.
    IndexFree,
    /// Without indexes, and with bare values instead of entries with a header.
    Plain,
}

impl Shape {
    /// Returns the name of the shape in the record of a layout.
    fn name(self) -> &'static str {
        match self {
            Self::Indexed => "ordered",
            Self::IndexFree => "free",
            Self::Plain => "plain",
        }
    }

    /// Returns the shape in the record of a layout; `None` for a record of another version.
    pub(crate) fn of_record(record: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(record).ok()?.strip_prefix("1 ")?.split(' ').next()?;
        [Self::Indexed, Self::IndexFree, Self::Plain].into_iter().find(|shape| shape.name() == name)
    }
}

/// The physical keys, slots and buckets of a namespace.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    /// The prefix of the keys of all entries.
    pub(crate) entry_prefix: String,
    /// The prefix of all keys of the namespace that hold no entry.
    own_prefix: String,
    buckets: Vec<Bucket>,
    group_segments: u8,
    /// True if the slot of each key must be known, because each server has only a part of the slots.
    is_cluster: bool,
}

/// A part of the keys of a namespace. These keys share a slot and an index.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) slot: u16,
    /// The prefix of the keys of all entries in the bucket.
    entry_prefix: String,
    /// The key of the index.
    pub(crate) index: String,
    /// The scratch key of the increment script.
    pub(crate) scratch: String,
}

/// The place of an entry in the database.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The key of the entry in the database.
    pub(crate) physical: Vec<u8>,
    pub(crate) slot: u16,
    pub(crate) bucket: usize,
}

impl Layout {
    /// The maximum number of buckets.
    pub(crate) const MAX_BUCKETS: u16 = 1_024;

    /// Creates the layout of a namespace.
    ///
    /// # Errors
    /// `Invalid` for a namespace, a number of buckets or a number of group segments out of range.
    pub(crate) fn new(
        namespace: &str,
        shape: Shape,
        buckets: u16,
        group_segments: u8,
        is_cluster: bool,
    ) -> Result<Self> {
        if namespace.len() > 255 {
            return Err(Error::invalid("`namespace` must have at most 255 bytes"));
        }
        if namespace.is_empty() && shape != Shape::Plain {
            return Err(Error::invalid("only the plain format may have an empty namespace"));
        }
        if buckets == 0 || buckets > Self::MAX_BUCKETS {
            return Err(Error::invalid(format!(
                "`buckets` must be between 1 and {}, not {buckets}",
                Self::MAX_BUCKETS
            )));
        }
        if group_segments == 0 {
            return Err(Error::invalid("`group_segments` must be at least 1"));
        }
        let name = escaped(namespace);
        let entry_prefix = if namespace.is_empty() { String::new() } else { format!("{name}#") };
        let own_prefix = format!("{name}!");
        let buckets = if shape == Shape::Plain {
            Vec::new()
        } else {
            tags(buckets)
                .into_iter()
                .map(|tag| Bucket {
                    slot: slot_of(tag.as_bytes()),
                    entry_prefix: format!("{entry_prefix}{{{tag}}}"),
                    index: format!("{own_prefix}{{{tag}}}"),
                    scratch: format!("{own_prefix}{{{tag}}}count"),
                })
                .collect()
        };
        Ok(Self { shape, entry_prefix, own_prefix, buckets, group_segments, is_cluster })
    }

    /// Returns the place of the entry of a key.
    pub(crate) fn place(&self, key: &Key) -> Place {
        let text = key.as_str();
        let bucket = self.bucket_of(text);
        let Some(Bucket { slot, entry_prefix, .. }) = self.buckets.get(bucket) else {
            let physical = [self.entry_prefix.as_bytes(), text.as_bytes()].concat();
            let slot = if self.is_cluster { slot_of(&physical) } else { 0 };
            return Place { physical, slot, bucket };
        };
        Place { physical: [entry_prefix.as_bytes(), text.as_bytes()].concat(), slot: *slot, bucket }
    }

    /// Returns the key of the entry that has this physical key; `None` for a foreign key.
    pub(crate) fn key_at(&self, physical: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(physical).ok()?.strip_prefix(&self.entry_prefix)?;
        if self.buckets.is_empty() {
            return Key::parse_stored(rest).ok();
        }
        let (_, text) = rest.strip_prefix('{')?.split_once('}')?;
        let key = Key::parse_stored(text).ok()?;
        (self.place(&key).physical == physical).then_some(key)
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    pub(crate) fn bucket(&self, bucket: usize) -> Option<&Bucket> {
        self.buckets.get(bucket)
    }

    /// Returns the key of the index of a bucket, if the namespace has indexes.
    pub(crate) fn index(&self, bucket: usize) -> Option<&str> {
        match self.shape {
            Shape::Indexed => Some(&self.buckets.get(bucket)?.index),
            Shape::IndexFree | Shape::Plain => None,
        }
    }

    /// Returns the buckets that may contain keys with the prefix.
    pub(crate) fn buckets_of(&self, prefix: &KeyPrefix) -> std::ops::Range<usize> {
        match prefix.as_str() {
            Some(text) if text.split('#').count() >= usize::from(self.group_segments) => {
                let bucket = self.bucket_of(text);
                bucket..bucket + 1
            }
            _ if self.buckets.len() == 1 => 0..1,
            _ => 0..self.buckets.len(),
        }
    }

    /// Returns a pattern for `SCAN` that matches the physical keys of all entries under the prefix, and maybe other
    /// keys.
    pub(crate) fn pattern(&self, prefix: &KeyPrefix) -> String {
        let prefix_text = glob_escaped(prefix.as_str().unwrap_or_default());
        let tag = if self.buckets.is_empty() { "" } else { "{*}" };
        format!("{}{tag}{prefix_text}*", glob_escaped(&self.entry_prefix))
    }

    /// Returns the physical key with this name outside the entries, and the slot of this key.
    pub(crate) fn own_key(&self, name: &str) -> (String, u16) {
        let key = format!("{}{name}", self.own_prefix);
        let slot = slot_of(key.as_bytes());
        (key, slot)
    }

    /// Returns the prefix of channel names. The prefix contains the number of the database, because all databases of a
    /// server share the channels.
    pub(crate) fn channel_prefix(&self, db: i64) -> String {
        format!("{}{db}!", self.own_prefix)
    }

    /// Returns the record of this layout.
    pub(crate) fn record(&self) -> String {
        self.record_as(self.shape)
    }

    /// Returns the record of a layout that differs from this layout only in its shape: the version of the record, the
    /// name of the shape, the number of buckets and the number of group segments.
    pub(crate) fn record_as(&self, shape: Shape) -> String {
        format!("1 {} {} {}", shape.name(), self.buckets.len(), self.group_segments)
    }

    /// Returns the bucket of a canonical key. The first segments of the key choose the bucket.
    fn bucket_of(&self, text: &str) -> usize {
        if self.buckets.len() < 2 {
            return 0;
        }
        let group = match text.match_indices('#').nth(usize::from(self.group_segments) - 1) {
            Some((end, _)) => text.get(..end).unwrap_or(text),
            None => text,
        };
        crc32c::crc32c(group.as_bytes()) as usize % self.buckets.len()
    }
}

/// Returns a pattern that matches only this text.
pub(crate) fn glob_escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Returns the slot of a physical key. The text in the first braces determines the slot. If there is no such text, the
/// whole key does.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tagged = || {
        let from = key.iter().position(|&byte| byte == b'{')? + 1;
        let rest = key.get(from..)?;
        let length = rest.iter().position(|&byte| byte == b'}')?;
        rest.get(..length).filter(|tag| !tag.is_empty())
    };
    crc16::State::<crc16::XMODEM>::calculate(tagged().unwrap_or(key)) % SLOTS
}

/// Returns hash tags whose slots are spread evenly over all slots, so that every master has its share of the buckets.
fn tags(count: u16) -> Vec<String> {
    let mut found = vec![None; usize::from(count)];
    let mut missing = count;
    for number in 0_u32.. {
        let tag = number.to_string();
        let bucket = u32::from(slot_of(tag.as_bytes())) * u32::from(count) / u32::from(SLOTS);
        if let Some(found_tag @ None) = found.get_mut(bucket as usize) {
            *found_tag = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// Returns the name of a namespace, escaped like a canonical segment, and without braces.
fn escaped(namespace: &str) -> String {
    let mut text = String::with_capacity(namespace.len());
    for character in namespace.chars() {
        if character <= '$' || matches!(character, '{' | '}') {
            // The escaped characters are ASCII, so two digits suffice. Writing to a string cannot fail.
            let _ = write!(text, "${:02X}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Layout {
        Layout::new("kv", Shape::Indexed, 64, 2, true).unwrap()
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn the_buckets_are_spread_evenly_over_the_slots() {
        let layout = cluster();
        for (index, bucket) in layout.buckets().iter().enumerate() {
            assert_eq!(usize::from(bucket.slot) / 256, index);
            assert_eq!(slot_of(bucket.index.as_bytes()), bucket.slot);
            assert_eq!(slot_of(bucket.scratch.as_bytes()), bucket.slot);
        }
    }

    #[test]
    fn a_key_has_the_slot_of_its_bucket_and_is_parsed_from_its_physical_key() {
        let layout = cluster();
        for text in ["", "a", "a#b", "a#b#c", "a#}x{", "a#$23$00", "{user}"] {
            let place = layout.place(&key(text));
            assert_eq!(slot_of(&place.physical), place.slot, "{text}");
            assert_eq!(layout.bucket(place.bucket).unwrap().slot, place.slot);
            assert_eq!(layout.key_at(&place.physical), Some(key(text)));
        }
    }

    #[test]
    fn keys_with_the_same_group_segments_are_in_one_bucket() {
        let layout = cluster();
        let bucket = layout.place(&key("users#1")).bucket;
        assert_eq!(layout.place(&key("users#1#profile#x")).bucket, bucket);
        assert_eq!(layout.buckets_of(&key("users#1").into()), bucket..bucket + 1);
        assert_eq!(layout.buckets_of(&key("users").into()), 0..64);
        assert_eq!(layout.buckets_of(&KeyPrefix::ALL), 0..64);
    }

    #[test]
    fn no_prefix_of_a_namespace_begins_with_the_prefix_of_another_namespace() {
        let names = ["a", "a#", "a!", "ab", "a{", "a$23", "*", "a*", "", "a#{0}"];
        let prefixes: Vec<String> = names
            .iter()
            .flat_map(|name| {
                let plain = Layout::new(name, Shape::Plain, 1, 2, false).unwrap();
                [plain.entry_prefix.clone(), plain.own_prefix.clone()]
            })
            .filter(|prefix| !prefix.is_empty() && prefix != "!")
            .collect();
        for (at, one) in prefixes.iter().enumerate() {
            for (other_at, other) in prefixes.iter().enumerate() {
                assert!(at == other_at || !other.starts_with(one.as_str()), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_foreign_key_is_not_parsed() {
        let layout = cluster();
        for foreign in ["kv", "kv#", "kv#a", "kv#{0}", "kv#{wrong}a", "kv2#{0}a", "kv#{0}a b", "other"] {
            assert_eq!(layout.key_at(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(layout.key_at(&[b'k', b'v', b'#', 0xff]), None);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (namespace, buckets, group) in [("", 1, 1), ("kv", 0, 1), ("kv", 2_000, 1), ("kv", 1, 0)] {
            assert!(Layout::new(namespace, Shape::Indexed, buckets, group, true).is_err());
        }
    }
}
