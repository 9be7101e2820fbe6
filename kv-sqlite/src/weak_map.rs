//! A process-wide map of shared values, which are dropped with their last user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Shares one value per key among the handles of a process. The map holds weak references, so that a value is dropped
/// with the last reference outside the map.
#[derive(Debug)]
pub(crate) struct WeakMap<K, T>(Mutex<Option<HashMap<K, Weak<T>>>>);

impl<K: Eq + Hash, T: Default> WeakMap<K, T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the value of a key. If the key has no value, creates the default value.
    pub(crate) fn get(&self, key: K) -> Arc<T> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let map = map.get_or_insert_default();
        map.retain(|_, value| value.strong_count() > 0);
        if let Some(value) = map.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        let value = Arc::default();
        map.insert(key, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_until_its_last_reference_is_dropped() {
        static MAP: WeakMap<&str, Mutex<u32>> = WeakMap::new();
        let (a, again, b) = (MAP.get("a"), MAP.get("a"), MAP.get("b"));
        *a.lock().unwrap() = 1;
        assert_eq!((*again.lock().unwrap(), *b.lock().unwrap()), (1, 0));
        drop((a, again));
        assert_eq!(*MAP.get("a").lock().unwrap(), 0);
    }
}
