//! Keys and prefixes as arrays of strings.

use std::borrow::Cow;
use std::fmt;

use kv_core::{Key, KeyPrefix, Namespace, Result};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The maximum number of segments of a key with its namespace. Each segment but the first takes at least one byte.
const MAX_SEGMENTS: usize = Namespace::MAX_BYTES + Key::MAX_BYTES + 2;

/// A key or a prefix: the text of all its segments, and the end of each segment in the text. For a line with many empty
/// segments, an array of strings would take ten times the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segments {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Segments {
    fn new<S: AsRef<str>>(segments: impl Iterator<Item = S>) -> Self {
        let mut collected = Collected::default();
        segments.for_each(|segment| collected.push(segment.as_ref()));
        collected.into()
    }

    /// Iterates over the segments.
    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&*self.ends);
        // The ends are in order and inside the text.
        starts.zip(&*self.ends).filter_map(|(start, end)| self.text.get(*start as usize..*end as usize))
    }

    /// Decodes a key. A client may put a namespace in front of its keys, as the first segment. This segment does not
    /// count against the limit of a key.
    pub(crate) fn key(&self) -> Result<Key> {
        let whole = Key::new(self.iter());
        let (Err(_), Some(namespace)) = (&whole, self.iter().next()) else { return whole };
        match (Key::new([namespace]), Key::new(self.iter().skip(1))) {
            (Ok(namespace), Ok(rest)) if namespace.as_str().len() <= Namespace::MAX_BYTES => {
                Key::parse_stored(&format!("{namespace}#{rest}"))
            }
            _ => whole,
        }
    }

    /// Decodes a prefix.
    pub(crate) fn prefix(&self) -> Result<KeyPrefix> {
        if self.ends.is_empty() { Ok(KeyPrefix::ALL) } else { self.key().map(KeyPrefix::from) }
    }

    /// Decodes the keys of a batch.
    pub(crate) fn keys(all: &[Self]) -> Result<Vec<Key>> {
        all.iter().map(Self::key).collect()
    }
}

impl From<&Key> for Segments {
    fn from(key: &Key) -> Self {
        Self::new(key.segments())
    }
}

impl From<&KeyPrefix> for Segments {
    fn from(prefix: &KeyPrefix) -> Self {
        Self::new(prefix.segments())
    }
}

impl Serialize for Segments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Segments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SegmentsVisitor)
    }
}

struct SegmentsVisitor;

impl<'de> Visitor<'de> for SegmentsVisitor {
    type Value = Segments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut segments: A) -> Result<Segments, A::Error> {
        let mut collected = Collected::default();
        while segments.next_element_seed(&mut collected)?.is_some() {
            if collected.ends.len() > MAX_SEGMENTS {
                return Err(A::Error::custom(format!("a key has at most {MAX_SEGMENTS} segments")));
            }
        }
        Ok(collected.into())
    }
}

/// The segments that are read so far. As a deserialization seed, this value reads one more segment without a separate
/// string.
#[derive(Default)]
struct Collected {
    text: String,
    ends: Vec<u32>,
}

impl Collected {
    fn push(&mut self, segment: &str) {
        self.text.push_str(segment);
        // No line and no key has 4 GiB.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}

impl From<Collected> for Segments {
    fn from(Collected { text, ends }: Collected) -> Self {
        Self { text: text.into(), ends: ends.into() }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Collected {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &mut Collected {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, segment: &str) -> Result<(), E> {
        self.push(segment);
        Ok(())
    }
}

/// Returns the segments of a key.
pub fn segments(key: &Key) -> Vec<String> {
    key.segments().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_in_front_of_a_key_does_not_count_against_the_limit_of_the_key() {
        let segments = |lengths: &[usize]| Segments::new(lengths.iter().map(|&length| "x".repeat(length)));
        for (lengths, fits) in [
            (&[Key::MAX_BYTES][..], true),
            (&[Key::MAX_BYTES + 1], false),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES], true),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES - 2, 1], true),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES + 1], false),
            (&[Namespace::MAX_BYTES + 1, Key::MAX_BYTES], false),
        ] {
            let segments = segments(lengths);
            assert_eq!((segments.key().is_ok(), segments.prefix().is_ok()), (fits, fits), "{lengths:?}");
            if let Ok(key) = segments.key() {
                assert_eq!(Segments::from(&key), segments);
            }
        }
        assert!(segments(&[]).key().is_err());
        assert_eq!(segments(&[]).prefix().unwrap(), KeyPrefix::ALL);
    }

    #[test]
    fn segments_round_trip_and_their_number_is_limited() {
        for line in ["[]", r#"[""]"#, r#"["","é\"","",""]"#] {
            let segments: Segments = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&segments).unwrap(), line);
        }
        let read = |count: usize| serde_json::from_str::<Segments>(&format!("[{}\"\"]", "\"\",".repeat(count - 1)));
        assert!(read(MAX_SEGMENTS).is_ok());
        assert!(read(MAX_SEGMENTS + 1).unwrap_err().to_string().contains("at most 2401 segments"));
        for bad in [r#""a""#, "[1]", "[null]", r#"{"a":"b"}"#] {
            assert!(serde_json::from_str::<Segments>(bad).is_err(), "{bad}");
        }
    }
}
