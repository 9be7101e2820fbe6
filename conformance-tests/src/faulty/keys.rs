//! Encodings that map different keys to one, or decode to another key.

use std::collections::HashMap;

use kv_core::Key;

use super::encoded_keys::{EncodedKeys, KeyEncoding};
use super::faults;
use super::hidden::Hidden;

faults! { keys:
    /// Joins segments with `:` without escaping.
    joined_with_a_colon: "K-2"
        ["injectivity/five_near_misses", "list/everything", "pages/a_limit_beyond_everything"]
        |inner, _clock| EncodedKeys::new(inner, Joined(":"));
    /// Joins segments with `/` without escaping.
    joined_with_a_slash: "K-2"
        ["injectivity/five_near_misses", "injectivity/separators", "list/whole_segments_only"]
        |inner, _clock| EncodedKeys::new(inner, Joined("/"));
    /// Joins segments with NUL without escaping.
    joined_with_nul: "K-2"
        ["injectivity/every_dangerous_key_is_its_own", "restart/odd_keys_survive"]
        |inner, _clock| EncodedKeys::new(inner, Joined("\0"));
    /// Encodes `#` as `$23` and does not escape `$`, so `#` and `$23` are the same key.
    escape_is_ambiguous: "K-2"
        ["injectivity/every_dangerous_key_is_its_own", "restart/odd_keys_survive"]
        |inner, _clock| EncodedKeys::by_segment(inner, |segment| segment.replace('#', "$23"));
    /// Stores keys correctly, but in `list` does not split after a segment that ends in `:`, as Fedify's Redis store
    /// did.
    list_joins_segments: "K-3"
        ["injectivity/every_dangerous_key_is_listed"]
        |inner, _clock| EncodedKeys::with_functions(inner, Key::clone, join_after_colons);
    /// Folds case, as a case-insensitive collation does.
    case_is_folded: "K-1"
        ["keys/case_stays_apart"]
        |inner, _clock| EncodedKeys::by_segment(inner, str::to_lowercase);
    /// Composes letters and accents, as a normalising file system does.
    unicode_is_composed: "K-1"
        ["keys/normal_forms_stay_apart"]
        |inner, _clock| EncodedKeys::by_segment(inner, compose);
    /// Truncates keys at 255 bytes.
    truncated_at_255_bytes: "K-1"
        ["keys/a_hundred_segments", "keys/long_keys_differ_at_their_end"]
        |inner, _clock| EncodedKeys::with_functions(inner, |key| truncate(key, 255), Key::clone);
    /// Truncates keys at 63 bytes, as PostgreSQL does with identifiers.
    truncated_at_63_bytes: "K-1"
        ["keys/a_hundred_segments"]
        |inner, _clock| EncodedKeys::with_functions(inner, |key| truncate(key, 63), Key::clone);
    /// Treats segments as C strings, which end at NUL.
    nul_ends_a_segment: "K-1"
        ["keys/control_characters"]
        |inner, _clock| EncodedKeys::by_segment(inner, until_nul);
    /// Drops empty segments, as paths do.
    empty_segments_are_dropped: "K-2"
        ["injectivity/every_dangerous_key_is_its_own"]
        |inner, _clock| EncodedKeys::with_functions(inner, drop_empty, Key::clone);
    /// Trims spaces at the end of a segment, as a CHAR column does.
    spaces_at_the_end_are_trimmed: "K-1"
        ["keys/spaces_stay"]
        |inner, _clock| EncodedKeys::by_segment(inner, |segment| segment.trim_end_matches(' ').to_owned());
    /// Decodes percent-encoded slashes (`%2F`) once too often.
    percent_is_decoded: "K-1"
        ["injectivity/escapes"]
        |inner, _clock| EncodedKeys::by_segment(inner, |segment| segment.replace("%2F", "/").replace("%2f", "/"));
    /// Identifies keys by a 16-bit hash, without comparing the keys.
    hashed_without_a_check: "K-2"
        ["injectivity/every_dangerous_key_is_its_own", "restart/lists_survive", "shared/lists_are_the_same",
         "processes/lists_are_the_same"]
        |inner, _clock| EncodedKeys::new(inner, OneWayEncoding::new(hash_of));
    /// Joins segments with `:` and encodes `:` as `_:`, so `["a_", "b"]` and `["a:b"]` are the same key.
    escape_collides_with_separator: "K-2"
        ["injectivity/ends_do_not_run_together"]
        |inner, _clock| EncodedKeys::new(inner, OneWayEncoding::new(join_with_weak_escape));
}

/// Returns a key of these segments, or `key` if they are not valid.
fn key_or_original<S: AsRef<str>>(key: &Key, segments: impl IntoIterator<Item = S>) -> Key {
    Key::new(segments).unwrap_or_else(|_| key.clone())
}

/// Joins all segments with a separator into one.
#[derive(Debug)]
struct Joined(&'static str);

impl KeyEncoding for Joined {
    fn encode(&self, key: &Key) -> Key {
        key_or_original(key, [key.segments().collect::<Vec<_>>().join(self.0)])
    }

    fn decode(&self, stored: &Key) -> Key {
        key_or_original(
            stored,
            stored.segments().flat_map(|text| text.split(self.0).map(str::to_owned).collect::<Vec<_>>()),
        )
    }
}

/// Joins a segment that ends in `:` with the next one.
fn join_after_colons(stored: &Key) -> Key {
    let mut segments: Vec<String> = Vec::new();
    for segment in stored.segments() {
        match segments.last_mut().filter(|last| last.ends_with(':')) {
            Some(last) => {
                last.push(':');
                last.push_str(&segment);
            }
            None => segments.push(segment.into_owned()),
        }
    }
    key_or_original(stored, segments)
}

/// Composes letters and accents. Covers common Latin letters.
fn compose(segment: &str) -> String {
    const PAIRS: &[(&str, &str)] = &[
        ("a\u{300}", "à"),
        ("a\u{301}", "á"),
        ("a\u{308}", "ä"),
        ("a\u{30a}", "å"),
        ("c\u{327}", "ç"),
        ("e\u{300}", "è"),
        ("e\u{301}", "é"),
        ("i\u{301}", "í"),
        ("n\u{303}", "ñ"),
        ("o\u{301}", "ó"),
        ("o\u{308}", "ö"),
        ("u\u{301}", "ú"),
        ("u\u{308}", "ü"),
        ("A\u{30a}", "Å"),
        ("E\u{301}", "É"),
    ];
    PAIRS.iter().fold(segment.to_owned(), |text, (apart, composed)| text.replace(apart, composed))
}

/// Returns the key of the longest prefix of the text that has at most `bytes` bytes and is canonical.
pub(super) fn truncate(key: &Key, bytes: usize) -> Key {
    let text = key.as_str();
    if text.len() <= bytes {
        return key.clone();
    }
    let ends = (0..=bytes).rev();
    ends.filter_map(|end| text.get(..end)).find_map(|start| Key::parse(start).ok()).unwrap_or_else(|| key.clone())
}

fn until_nul(segment: &str) -> String {
    segment.split('\0').take(1).collect()
}

fn drop_empty(key: &Key) -> Key {
    key_or_original(key, key.segments().filter(|segment| !segment.is_empty()))
}

/// An encoding that cannot be decoded. For a stored key, `list` shows the last key that was encoded to this stored key.
#[derive(Debug)]
struct OneWayEncoding {
    encode: fn(&Key) -> String,
    last: Hidden<HashMap<Key, Key>>,
}

impl OneWayEncoding {
    fn new(encode: fn(&Key) -> String) -> Self {
        Self { encode, last: Hidden::default() }
    }
}

impl KeyEncoding for OneWayEncoding {
    fn encode(&self, key: &Key) -> Key {
        let stored = key_or_original(key, [(self.encode)(key)]);
        self.last.lock().insert(stored.clone(), key.clone());
        stored
    }

    fn decode(&self, stored: &Key) -> Key {
        let last = self.last.lock();
        last.get(stored).unwrap_or(stored).clone()
    }
}

fn hash_of(key: &Key) -> String {
    let hash =
        key.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

fn join_with_weak_escape(key: &Key) -> String {
    key.segments().map(|segment| segment.replace(':', "_:")).collect::<Vec<_>>().join(":")
}
