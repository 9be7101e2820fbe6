//! A process-wide map of shared values. It drops a value with the last reference outside the map.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Shares one value per name among the handles of a process. The map itself holds weak references only.
#[derive(Debug)]
pub(crate) struct WeakMap<N, T>(Mutex<Option<HashMap<N, Weak<T>>>>);

impl<N: Eq + Hash, T: Default> WeakMap<N, T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the value of this name, or creates it if no reference to one exists.
    pub(crate) fn get(&self, name: N) -> Arc<T> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let map = map.get_or_insert_default();
        map.retain(|_, value| value.strong_count() > 0);
        if let Some(value) = map.get(&name).and_then(Weak::upgrade) {
            return value;
        }
        let value = Arc::default();
        map.insert(name, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_while_it_is_held() {
        static MAP: WeakMap<&str, Mutex<u32>> = WeakMap::new();
        let (a, again, b) = (MAP.get("a"), MAP.get("a"), MAP.get("b"));
        *a.lock().unwrap() = 1;
        assert_eq!((*again.lock().unwrap(), *b.lock().unwrap()), (1, 0));
        drop((a, again));
        assert_eq!(*MAP.get("a").lock().unwrap(), 0);
    }
}
