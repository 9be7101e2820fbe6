//! Listing keys in order, page by page.

use std::ops::Bound;

use crate::capabilities::Capabilities;
use crate::capability::Capability;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::{Key, KeyPrefix};

/// A query for the keys of a prefix between two bounds, in order (clauses L-1 to L-3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// The prefix. Its own key is included.
    pub prefix: KeyPrefix,
    /// The exclusive lower bound. The key need not exist.
    pub after: Option<Key>,
    /// The exclusive upper bound. The key need not exist.
    pub before: Option<Key>,
    /// True to list from the last key to the first.
    pub reverse: bool,
    /// The maximum number of items in a page. Zero is invalid.
    pub limit: Option<usize>,
    /// True for items without entries. The store then reads no values.
    pub keys_only: bool,
    /// The total size of values, in bytes, at which a page ends. The first value of a page may be larger.
    pub max_page_bytes: usize,
}

impl ListQuery {
    /// The default of [`ListQuery::max_page_bytes`]: 4 MiB.
    pub const DEFAULT_PAGE_BYTES: usize = 4 << 20;

    /// Creates a query for all entries under the prefix.
    pub fn new(prefix: impl Into<KeyPrefix>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            before: None,
            reverse: false,
            limit: None,
            keys_only: false,
            max_page_bytes: Self::DEFAULT_PAGE_BYTES,
        }
    }

    /// Sets the exclusive lower bound.
    #[must_use]
    pub fn with_after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// Sets the exclusive upper bound.
    #[must_use]
    pub fn with_before(mut self, key: Key) -> Self {
        self.before = Some(key);
        self
    }

    /// Lists from the last key to the first.
    #[must_use]
    pub fn with_reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Sets the maximum number of items in a page.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lists keys without entries.
    #[must_use]
    pub fn with_keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Sets the total size of values, in bytes, at which a page ends.
    #[must_use]
    pub fn with_max_page_bytes(mut self, bytes: usize) -> Self {
        self.max_page_bytes = bytes;
        self
    }

    /// Returns the query that continues after `next` in the same direction.
    #[must_use]
    pub fn resume(mut self, next: Key) -> Self {
        if self.reverse {
            self.before = Some(next);
        } else {
            self.after = Some(next);
        }
        self
    }

    /// Returns the canonical texts of `prefix ∩ after ∩ before` as one range, or `None` if the range is empty.
    pub fn range(&self) -> Option<(Bound<String>, Bound<String>)> {
        let (start, end) = self.prefix.range();
        let start = match &self.after {
            Some(after) if after.as_str() >= start => Bound::Excluded(after.as_str().to_owned()),
            _ => Bound::Included(start.to_owned()),
        };
        let end = match (&self.before, end) {
            (Some(before), Some(end)) if before.as_str() >= end.as_str() => Bound::Excluded(end),
            (Some(before), _) => Bound::Excluded(before.as_str().to_owned()),
            (None, Some(end)) => Bound::Excluded(end),
            (None, None) => Bound::Unbounded,
        };
        let is_empty = match (&start, &end) {
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        };
        (!is_empty).then_some((start, end))
    }

    /// Checks that the store supports this query. Every adapter calls this method before any I/O.
    ///
    /// # Errors
    /// `Unsupported` without the list capability, `Invalid` for a limit of zero.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        capabilities.require(Capability::List)?;
        if self.limit == Some(0) {
            return Err(Error::invalid("the limit is zero: a page needs at least one item"));
        }
        Ok(())
    }
}

impl Default for ListQuery {
    fn default() -> Self {
        Self::new(KeyPrefix::ALL)
    }
}

/// One listed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListItem {
    /// The key.
    pub key: Key,
    /// The entry, unless the query asked for keys only.
    pub entry: Option<Entry>,
}

/// One page of a listing. A page may be short or empty. The listing ends only if `next` is `None`.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// The items, in the query's order.
    pub items: Vec<ListItem>,
    /// A `Corrupt` error, with its key, for each entry of the page that cannot be read, in the query's order (clause
    /// E-4). The listing continues after that entry. A listing without values reports only the damage that the store
    /// notices without reading values.
    pub damaged: Vec<Error>,
    /// The key to pass to [`ListQuery::resume`] for the next page; `None` at the end.
    pub next: Option<Key>,
}

impl ListPage {
    /// Returns the items and the errors of damaged entries in the order of their keys. `reverse` must be the field of
    /// the query.
    pub fn into_results(self, reverse: bool) -> impl Iterator<Item = Result<ListItem>> + Send {
        let (mut items, mut damaged) = (self.items.into_iter().peekable(), self.damaged.into_iter().peekable());
        std::iter::from_fn(move || {
            let is_item_next = match (items.peek(), damaged.peek().map(Error::key)) {
                (Some(item), Some(Some(key))) if reverse => item.key > *key,
                (Some(item), Some(Some(key))) => item.key < *key,
                (item, _) => item.is_some(),
            };
            if is_item_next { items.next().map(Ok) } else { damaged.next().map(Err) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> ListQuery {
        ListQuery::new(Key::new(["b"]).unwrap())
    }

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn bounds_outside_the_prefix_do_not_widen_the_range() {
        let all = query().range().unwrap();
        assert_eq!(query().with_after(key("a")).with_before(key("c")).range().unwrap(), all);
        assert_eq!(all, (Bound::Included("b".into()), Bound::Excluded("b$".into())));
    }

    #[test]
    fn bounds_that_exclude_each_other_cover_nothing() {
        assert_eq!(query().with_after(key("c")).range(), None);
        assert_eq!(query().with_before(key("a")).range(), None);
        assert_eq!(query().with_before(key("b")).range(), None);
        assert_eq!(query().with_after(key("b#2")).with_before(key("b#2")).range(), None);
        assert_eq!(query().with_after(key("b#2")).with_before(key("b#1")).range(), None);
    }

    #[test]
    fn resuming_continues_in_the_direction_of_the_query() {
        assert_eq!(query().resume(key("b#1")).after, Some(key("b#1")));
        assert_eq!(query().with_reverse().resume(key("b#1")).before, Some(key("b#1")));
    }
}
