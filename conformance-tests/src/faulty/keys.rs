//! Encodings that take different keys for one, or read back another key than was written.

use std::collections::HashMap;

use kv_core::Key;

use super::faults;
use super::kept::Kept;
use super::recoded::{Coding, Recoded};

faults! { keys:
    joined_with_a_colon: "K-2" "joins segments with `:` and escapes nothing"
        ["injectivity/five_near_misses", "list/everything", "pages/a_limit_beyond_everything"]
        |inner, _clock| Recoded::new(inner, Joined(":"));
    joined_with_a_slash: "K-2" "joins segments with `/` and escapes nothing"
        ["injectivity/five_near_misses", "injectivity/separators", "list/whole_segments_only"]
        |inner, _clock| Recoded::new(inner, Joined("/"));
    joined_with_nul: "K-2" "joins segments with NUL and escapes nothing"
        ["injectivity/every_dangerous_key_is_its_own", "restart/odd_keys_survive"]
        |inner, _clock| Recoded::new(inner, Joined("\0"));
    escape_is_ambiguous: "K-2" "writes `#` as `$23` and leaves `$` alone, so that both are one key"
        ["injectivity/every_dangerous_key_is_its_own", "restart/odd_keys_survive"]
        |inner, _clock| Recoded::by_segment(inner, |segment| segment.replace('#', "$23"));
    reads_back_too_few_segments: "K-3" "stores keys well, and does not split what it lists behind a segment that ends in `:`, as Fedify's Redis store did not"
        ["injectivity/every_dangerous_key_is_listed"]
        |inner, _clock| Recoded::spelled(inner, Key::clone, glue_behind_colons);
    case_is_folded: "K-1" "folds case, as a case-insensitive collation does"
        ["keys/case_stays_apart"]
        |inner, _clock| Recoded::by_segment(inner, str::to_lowercase);
    unicode_is_composed: "K-1" "composes letters and accents, as a normalising file system does"
        ["keys/normal_forms_stay_apart"]
        |inner, _clock| Recoded::by_segment(inner, compose);
    truncated_at_255_bytes: "K-1" "cuts keys off at 255 bytes"
        ["keys/a_hundred_segments", "keys/long_keys_differ_at_their_end"]
        |inner, _clock| Recoded::spelled(inner, |key| truncate(key, 255), Key::clone);
    truncated_at_63_bytes: "K-1" "cuts keys off at 63 bytes, as PostgreSQL does with names"
        ["keys/a_hundred_segments"]
        |inner, _clock| Recoded::spelled(inner, |key| truncate(key, 63), Key::clone);
    nul_ends_a_segment: "K-1" "takes segments for C strings, which end at NUL"
        ["keys/control_characters"]
        |inner, _clock| Recoded::by_segment(inner, until_nul);
    empty_segments_are_dropped: "K-2" "drops empty segments, as a path does"
        ["injectivity/every_dangerous_key_is_its_own"]
        |inner, _clock| Recoded::spelled(inner, drop_empty, Key::clone);
    spaces_at_the_end_are_trimmed: "K-1" "trims spaces at the end, as a CHAR column does"
        ["keys/spaces_stay"]
        |inner, _clock| Recoded::by_segment(inner, |segment| segment.trim_end_matches(' ').to_owned());
    percent_is_decoded: "K-1" "decodes `%2F` and its like once too often"
        ["injectivity/escapes"]
        |inner, _clock| Recoded::by_segment(inner, |segment| segment.replace("%2F", "/").replace("%2f", "/"));
    hashed_without_a_check: "K-2" "takes keys with the same 16-bit hash for one"
        ["injectivity/every_dangerous_key_is_its_own", "restart/lists_survive", "shared/lists_are_the_same", "processes/lists_are_the_same"]
        |inner, _clock| Recoded::new(inner, Remembered::new(hashed));
    escapes_run_into_separators: "K-2" "joins segments with `:` and writes `:` as `_:`, so that a segment that ends in `_` meets one with a colon"
        ["injectivity/ends_do_not_run_together"]
        |inner, _clock| Recoded::new(inner, Remembered::new(half_escaped));
}

/// A key of these segments; the key itself where they make none.
fn rebuilt<S: AsRef<str>>(key: &Key, segments: impl IntoIterator<Item = S>) -> Key {
    Key::new(segments).unwrap_or_else(|_| key.clone())
}

/// One segment with this between what were segments.
#[derive(Debug)]
struct Joined(&'static str);

impl Coding for Joined {
    fn encode(&self, key: &Key) -> Key {
        rebuilt(key, [key.segments().collect::<Vec<_>>().join(self.0)])
    }

    fn decode(&self, stored: &Key) -> Key {
        rebuilt(stored, stored.segments().flat_map(|text| text.split(self.0).map(str::to_owned).collect::<Vec<_>>()))
    }
}

/// A segment that ends in `:`, and the next, come back as one.
fn glue_behind_colons(stored: &Key) -> Key {
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
    rebuilt(stored, segments)
}

/// Enough of the composed form for Latin letters.
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

/// The longest start of the canonical text that is canonical itself.
fn truncate(key: &Key, bytes: usize) -> Key {
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
    rebuilt(key, key.segments().filter(|segment| !segment.is_empty()))
}

/// What a spelling makes of the key is all that is stored; the last key that came to it is listed.
#[derive(Debug)]
struct Remembered {
    spell: fn(&Key) -> String,
    last: Kept<HashMap<Key, Key>>,
}

impl Remembered {
    fn new(spell: fn(&Key) -> String) -> Self {
        Self { spell, last: Kept::default() }
    }
}

impl Coding for Remembered {
    fn encode(&self, key: &Key) -> Key {
        let stored = rebuilt(key, [(self.spell)(key)]);
        self.last.lock().insert(stored.clone(), key.clone());
        stored
    }

    fn decode(&self, stored: &Key) -> Key {
        let last = self.last.lock();
        last.get(stored).unwrap_or(stored).clone()
    }
}

fn hashed(key: &Key) -> String {
    let hash =
        key.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

fn half_escaped(key: &Key) -> String {
    key.segments().map(|segment| segment.replace(':', "_:")).collect::<Vec<_>>().join(":")
}
