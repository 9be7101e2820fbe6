//! The header of stored values.

use kv_core::{Bytes, Deadline, Key, stored};

/// Checks that any bytes are refused as damage, or decode to an entry that encodes to the same bytes.
pub fn stored_header(data: &[u8]) {
    let keys = [Key::new(["a"]), Key::new(["a", "b"])];
    for key in keys.into_iter().flatten() {
        let bytes = Bytes::copy_from_slice(data);
        if let Ok((entry, deadline)) = stored::decode(&key, bytes) {
            let version = entry.version.expect("a decoded entry has a version");
            let again = stored::encode(&key, &version, deadline, &entry.value);
            assert_eq!(again, data, "a decoded entry encodes to other bytes");
            assert_eq!(stored::deadline(&key, data).ok(), Some(deadline), "the deadline decoded alone differs");
            assert!(entry.value.len() + stored::HEADER_BYTES == data.len(), "the value has a wrong length");
        }
        let mut moved = data.to_vec();
        if stored::set_deadline(&key, &mut moved, Deadline::from_millis(7)).is_ok() {
            assert_eq!(stored::deadline(&key, &moved).ok(), Some(Deadline::from_millis(7)));
            assert_eq!(moved.len(), data.len(), "moving a deadline changed the length");
        }
    }
}
