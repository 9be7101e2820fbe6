//! The text of a key.

use kv_core::{Key, KeyPrefix, Namespace};

/// The maximum length of the text of a key, in bytes.
const MAX_BYTES: usize = 2_048;

/// Checks that any text is refused or canonical, and that a key of any accepted segments returns the same segments.
pub fn key_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text, "a text that is not canonical was accepted");
        assert!(text.len() <= MAX_BYTES, "a key has {} bytes", text.len());
        assert_eq!(Key::new(key.segments()).ok().as_ref(), Some(&key), "the segments of the key make another key");
        assert!(KeyPrefix::from(&key).covers(&key), "a key is not covered by its own prefix");
        let _ = (Namespace::try_from(key.clone()), format!("{key} {key:?} {}", key.fingerprint()));
    }
    let segments: Vec<&str> = text.split('\u{1f}').collect();
    if let Ok(key) = Key::new(&segments) {
        assert!(key.segments().eq(segments.iter().copied()), "a key returns other segments than it was made of");
        assert_eq!(Key::parse(key.as_str()).ok().as_ref(), Some(&key), "the text of the key makes another key");
        assert!(key.as_str().bytes().all(|byte| byte > b' '), "the text has a control character or a space");
    }
}
