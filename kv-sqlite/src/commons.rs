//! What handles of one process share by a name, for as long as one of them has it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[derive(Debug)]
pub(crate) struct Commons<N, T>(Mutex<Option<HashMap<N, Weak<T>>>>);

impl<N: Eq + Hash, T: Default> Commons<N, T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What has this name; made where nobody has it.
    pub(crate) fn get(&self, name: N) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        all.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = all.get(&name).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::default();
        all.insert(name, Arc::downgrade(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shared_while_somebody_has_it() {
        static ALL: Commons<&str, Mutex<u32>> = Commons::new();
        let (a, again, b) = (ALL.get("a"), ALL.get("a"), ALL.get("b"));
        *a.lock().unwrap() = 1;
        assert_eq!((*again.lock().unwrap(), *b.lock().unwrap()), (1, 0));
        drop((a, again));
        assert_eq!(*ALL.get("a").lock().unwrap(), 0);
    }
}
