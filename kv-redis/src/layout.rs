//! Where the keys of a namespace lie in the database.
//!
//! | key | what |
//! |---|---|
//! | `NAMESPACE#{TAG}KEY` | an entry: its bucket's tag, which decides the slot on a cluster, and the canonical text of its key |
//! | `NAMESPACE!{TAG}` | the bucket's index: a sorted set of canonical texts, all of one score |
//! | `NAMESPACE!{TAG}count` | where the script of a counter counts; there for its duration only |
//! | `NAMESPACE!layout` | how the namespace was laid out when it was created |
//! | `NAMESPACE!sweeper` | which handle sweeps, for as long as it does |
//! | `NAMESPACE!DB!CHANNEL` | a channel of messages |
//!
//! In plain format an entry is at `NAMESPACE#KEY`, or at `KEY` where the namespace is empty. `#` and `!` are escaped inside a
//! namespace, so that nothing of one namespace begins like something of another, and so are braces, which would be tags.

use std::fmt::Write;

use kv_core::{Error, Key, KeyPrefix, Result};

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// What is kept beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An index of every bucket.
    Ordered,
    /// Nothing: a list scans.
    Free,
    /// Nothing, and entries are bare values.
    Plain,
}

#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    /// What every entry's key begins with.
    pub(crate) data: String,
    /// What every other key begins with.
    own: String,
    buckets: Vec<Bucket>,
    group_segments: u8,
    /// Whether slots matter.
    is_cluster: bool,
}

#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) slot: u16,
    /// What the keys of its entries begin with.
    data: String,
    pub(crate) index: String,
    pub(crate) scratch: String,
}

/// Where one key lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) physical: Vec<u8>,
    pub(crate) slot: u16,
    pub(crate) bucket: usize,
}

impl Layout {
    pub(crate) const MAX_BUCKETS: u16 = 1_024;

    pub(crate) fn new(
        namespace: &str,
        shape: Shape,
        buckets: u16,
        group_segments: u8,
        is_cluster: bool,
    ) -> Result<Self> {
        if namespace.len() > 255 {
            return Err(Error::invalid("a namespace has at most 255 bytes"));
        }
        if namespace.is_empty() && shape != Shape::Plain {
            return Err(Error::invalid("only the plain format goes without a namespace"));
        }
        if buckets == 0 || buckets > Self::MAX_BUCKETS {
            return Err(Error::invalid(format!("there are 1 to {} buckets, not {buckets}", Self::MAX_BUCKETS)));
        }
        if group_segments == 0 {
            return Err(Error::invalid("a group has at least one segment"));
        }
        let name = escaped(namespace);
        let data = if namespace.is_empty() { String::new() } else { format!("{name}#") };
        let own = format!("{name}!");
        let buckets = if shape == Shape::Plain {
            Vec::new()
        } else {
            tags(buckets)
                .into_iter()
                .map(|tag| Bucket {
                    slot: slot_of(tag.as_bytes()),
                    data: format!("{data}{{{tag}}}"),
                    index: format!("{own}{{{tag}}}"),
                    scratch: format!("{own}{{{tag}}}count"),
                })
                .collect()
        };
        Ok(Self { shape, data, own, buckets, group_segments, is_cluster })
    }

    pub(crate) fn place(&self, key: &Key) -> Place {
        let text = key.as_str();
        let bucket = self.bucket_of(text);
        let Some(Bucket { slot, data, .. }) = self.buckets.get(bucket) else {
            let physical = [self.data.as_bytes(), text.as_bytes()].concat();
            let slot = if self.is_cluster { slot_of(&physical) } else { 0 };
            return Place { physical, slot, bucket };
        };
        Place { physical: [data.as_bytes(), text.as_bytes()].concat(), slot: *slot, bucket }
    }

    /// The key that lies at a place, where it is one of ours.
    pub(crate) fn key_at(&self, physical: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(physical).ok()?.strip_prefix(&self.data)?;
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

    pub(crate) fn bucket(&self, number: usize) -> Option<&Bucket> {
        self.buckets.get(number)
    }

    /// The index that a script on this bucket keeps.
    pub(crate) fn index(&self, number: usize) -> Option<&str> {
        match self.shape {
            Shape::Ordered => Some(&self.buckets.get(number)?.index),
            Shape::Free | Shape::Plain => None,
        }
    }

    /// The buckets in which keys of the prefix lie.
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

    /// A pattern that matches what lies under the prefix, and more.
    pub(crate) fn pattern(&self, prefix: &KeyPrefix) -> String {
        let prefix_text = globbed(prefix.as_str().unwrap_or_default());
        let tag = if self.buckets.is_empty() { "" } else { "{*}" };
        format!("{}{tag}{prefix_text}*", globbed(&self.data))
    }

    /// A key of the namespace that holds no entry.
    pub(crate) fn own(&self, name: &str) -> (String, u16) {
        let key = format!("{}{name}", self.own);
        let slot = slot_of(key.as_bytes());
        (key, slot)
    }

    /// What the names of channels begin with. The server shares channels between its databases, and stores do not.
    pub(crate) fn channels(&self, db: i64) -> String {
        format!("{}{db}!", self.own)
    }

    /// How the layout is recorded.
    pub(crate) fn record(&self) -> String {
        let shape = match self.shape {
            Shape::Ordered => "ordered",
            Shape::Free => "free",
            Shape::Plain => "plain",
        };
        format!("1 {shape} {} {}", self.buckets.len(), self.group_segments)
    }

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

/// A pattern that matches this text and nothing else.
pub(crate) fn globbed(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// The slot of a key, by what stands in its first braces where something does.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tagged = || {
        let from = key.iter().position(|&byte| byte == b'{')? + 1;
        let rest = key.get(from..)?;
        let length = rest.iter().position(|&byte| byte == b'}')?;
        rest.get(..length).filter(|tag| !tag.is_empty())
    };
    crc16::State::<crc16::XMODEM>::calculate(tagged().unwrap_or(key)) % SLOTS
}

/// Tags whose slots divide all slots evenly, so that every master has its share of the buckets.
fn tags(count: u16) -> Vec<String> {
    let mut found = vec![None; usize::from(count)];
    let mut missing = count;
    for number in 0_u32.. {
        let tag = number.to_string();
        let share = u32::from(slot_of(tag.as_bytes())) * u32::from(count) / u32::from(SLOTS);
        if let Some(place @ None) = found.get_mut(share as usize) {
            *place = Some(tag);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// A namespace as one canonical segment, without braces.
fn escaped(namespace: &str) -> String {
    let mut text = String::with_capacity(namespace.len());
    for character in namespace.chars() {
        if character <= '$' || matches!(character, '{' | '}') {
            // Only ASCII comes here. Writing to a string does not fail.
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
        Layout::new("kv", Shape::Ordered, 64, 2, true).unwrap()
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn the_shares_of_the_slots_are_even() {
        let layout = cluster();
        for (number, bucket) in layout.buckets().iter().enumerate() {
            assert_eq!(usize::from(bucket.slot) / 256, number);
            assert_eq!(slot_of(bucket.index.as_bytes()), bucket.slot);
            assert_eq!(slot_of(bucket.scratch.as_bytes()), bucket.slot);
        }
    }

    #[test]
    fn a_key_and_its_index_share_a_slot_and_the_key_is_read_back() {
        let layout = cluster();
        for text in ["", "a", "a#b", "a#b#c", "a#}x{", "a#$23$00", "{user}"] {
            let place = layout.place(&key(text));
            assert_eq!(slot_of(&place.physical), place.slot, "{text}");
            assert_eq!(layout.bucket(place.bucket).unwrap().slot, place.slot);
            assert_eq!(layout.key_at(&place.physical), Some(key(text)));
        }
    }

    #[test]
    fn a_group_lies_in_one_bucket_and_its_prefix_is_looked_for_there() {
        let layout = cluster();
        let bucket = layout.place(&key("users#1")).bucket;
        assert_eq!(layout.place(&key("users#1#profile#x")).bucket, bucket);
        assert_eq!(layout.buckets_of(&key("users#1").into()), bucket..bucket + 1);
        assert_eq!(layout.buckets_of(&key("users").into()), 0..64);
        assert_eq!(layout.buckets_of(&KeyPrefix::ALL), 0..64);
    }

    #[test]
    fn namespaces_stay_apart() {
        let names = ["a", "a#", "a!", "ab", "a{", "a$23", "*", "a*", "", "a#{0}"];
        let begins: Vec<String> = names
            .iter()
            .flat_map(|name| {
                let plain = Layout::new(name, Shape::Plain, 1, 2, false).unwrap();
                [plain.data.clone(), plain.own.clone()]
            })
            .filter(|begin| !begin.is_empty() && begin != "!")
            .collect();
        for (at, one) in begins.iter().enumerate() {
            for (other_at, other) in begins.iter().enumerate() {
                assert!(at == other_at || !other.starts_with(one.as_str()), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_no_key() {
        let layout = cluster();
        for foreign in ["kv", "kv#", "kv#a", "kv#{0}", "kv#{wrong}a", "kv2#{0}a", "kv#{0}a b", "other"] {
            assert_eq!(layout.key_at(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(layout.key_at(&[b'k', b'v', b'#', 0xff]), None);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (namespace, buckets, group) in [("", 1, 1), ("kv", 0, 1), ("kv", 2_000, 1), ("kv", 1, 0)] {
            assert!(Layout::new(namespace, Shape::Ordered, buckets, group, true).is_err());
        }
    }
}
