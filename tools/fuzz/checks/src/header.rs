//! The header of stored values.

use kv_core::{Bytes, Deadline, Key, stored};

/// Any bytes are refused as damage, or are exactly what would be written again.
pub fn stored_header(data: &[u8]) {
    let keys = [Key::new(["a"]), Key::new(["a", "b"])];
    for key in keys.into_iter().flatten() {
        let bytes = Bytes::copy_from_slice(data);
        if let Ok((entry, deadline)) = stored::decode(&key, bytes) {
            let version = entry.version.expect("what was decoded has a version");
            let again = stored::encode(&key, &version, deadline, &entry.value);
            assert_eq!(again, data, "what was decoded is encoded as something else");
            assert_eq!(stored::deadline(&key, data).ok(), Some(deadline), "the deadline alone is another");
            assert!(entry.value.len() + stored::HEADER_BYTES == data.len(), "the value has another length");
        }
        let mut moved = data.to_vec();
        if stored::set_deadline(&key, &mut moved, Deadline::from_millis(7)).is_ok() {
            assert_eq!(stored::deadline(&key, &moved).ok(), Some(Deadline::from_millis(7)));
            assert_eq!(moved.len(), data.len(), "moving a deadline changed the length");
        }
    }
}
