//! Filling a page of a list.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::entry::Entry;
use crate::error::{Operation, Result};
use crate::expiry::Deadline;
use crate::key::Key;
use crate::list::{ListItem, ListPage, ListQuery};

/// Fills a page from records that come in the order of a query (clauses L-1, L-3 and E-4).
///
/// The page skips expired records. It ends at the query's limit of items, at its limit of bytes, or after
/// [`PageFiller::MAX_VISITED`] records, so that a page over many expired records is short and not slow. A damaged record
/// becomes an error of the page and counts as an item.
#[derive(Debug)]
pub struct PageFiller {
    backend: Cow<'static, str>,
    keys_only: bool,
    limit: usize,
    max_bytes: usize,
    page: ListPage,
    bytes: usize,
    visited: usize,
}

impl PageFiller {
    /// The maximum number of records, live or not, that one page visits.
    pub const MAX_VISITED: usize = 16_384;

    /// Creates an empty page. `backend` is the name in [`StoreInfo::name`](crate::StoreInfo), for the errors of damaged
    /// records.
    pub fn new(query: &ListQuery, backend: impl Into<Cow<'static, str>>) -> Self {
        Self {
            backend: backend.into(),
            keys_only: query.keys_only,
            limit: query.limit.unwrap_or(usize::MAX),
            max_bytes: query.max_page_bytes,
            page: ListPage::default(),
            bytes: 0,
            visited: 0,
        }
    }

    /// Adds the next record. Returns `Break` if the page has ended.
    ///
    /// `deadline` is the deadline of the record, or the error of a damaged record. `value_bytes` is the size of the
    /// value. `entry` decodes the entry. It is called only for an item with an entry.
    pub fn push(
        &mut self,
        key: Key,
        deadline: Result<Deadline>,
        value_bytes: usize,
        now: SystemTime,
        entry: impl FnOnce(&Key) -> Result<Entry>,
    ) -> ControlFlow<()> {
        self.visited += 1;
        let found = match deadline {
            Ok(deadline) if deadline.has_passed(now) => {
                return self.end_if(self.visited >= Self::MAX_VISITED, key);
            }
            Ok(_) if self.keys_only => Ok(None),
            Ok(_) => entry(&key).map(Some),
            Err(error) => Err(error),
        };
        if !self.keys_only {
            self.bytes += value_bytes;
        }
        match found {
            Ok(entry) => self.page.items.push(ListItem { key: key.clone(), entry }),
            Err(error) => {
                let error = error.with_operation(Operation::List).with_backend(self.backend.clone());
                self.page.damaged.push(error.with_key(&key));
            }
        }
        let rows = self.page.items.len() + self.page.damaged.len();
        self.end_if(rows >= self.limit || self.bytes >= self.max_bytes || self.visited >= Self::MAX_VISITED, key)
    }

    /// Returns the page. Call this method after [`PageFiller::push`] has returned `Break`, or after the last record.
    pub fn finish(self) -> ListPage {
        self.page
    }

    fn end_if(&mut self, has_ended: bool, key: Key) -> ControlFlow<()> {
        if has_ended {
            self.page.next = Some(key);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn key(at: usize) -> Key {
        Key::new(["k", &format!("{at:05}")]).unwrap()
    }

    fn push(page: &mut PageFiller, at: usize, deadline: Result<Deadline>) -> ControlFlow<()> {
        page.push(key(at), deadline, 10, NOW, |_| Ok(Entry::new("0123456789")))
    }

    #[test]
    fn a_page_ends_at_its_limit_and_continues_after_its_last_item() {
        let mut page = PageFiller::new(&ListQuery::default().with_limit(2), "test");
        assert!(push(&mut page, 1, Ok(Deadline::NEVER)).is_continue());
        assert!(push(&mut page, 2, Ok(Deadline::from_millis(0))).is_continue());
        assert!(push(&mut page, 3, Ok(Deadline::NEVER)).is_break());
        let page = page.finish();
        assert_eq!(page.items.iter().map(|item| item.key.clone()).collect::<Vec<_>>(), [key(1), key(3)]);
        assert_eq!(page.next, Some(key(3)));
    }

    #[test]
    fn a_page_ends_at_its_bytes_but_holds_one_item() {
        let mut page = PageFiller::new(&ListQuery::default().with_max_page_bytes(1), "test");
        assert!(push(&mut page, 1, Ok(Deadline::NEVER)).is_break());
        assert_eq!(page.finish().items.len(), 1);
        let mut keys = PageFiller::new(&ListQuery::default().with_max_page_bytes(1).with_keys_only(), "test");
        assert!(push(&mut keys, 1, Ok(Deadline::NEVER)).is_continue());
    }

    #[test]
    fn a_page_over_expired_records_ends_and_can_be_empty() {
        let mut page = PageFiller::new(&ListQuery::default(), "test");
        for at in 1..PageFiller::MAX_VISITED {
            assert!(push(&mut page, at, Ok(Deadline::from_millis(0))).is_continue());
        }
        assert!(push(&mut page, PageFiller::MAX_VISITED, Ok(Deadline::from_millis(0))).is_break());
        let page = page.finish();
        assert!(page.items.is_empty() && page.next == Some(key(PageFiller::MAX_VISITED)));
    }

    #[test]
    fn a_damaged_record_is_an_error_with_its_key() {
        let mut page = PageFiller::new(&ListQuery::default(), "test");
        assert!(push(&mut page, 1, Err(Error::corrupt("a flipped bit"))).is_continue());
        let page = page.finish();
        assert_eq!((page.damaged[0].kind(), page.damaged[0].key()), (ErrorKind::Corrupt, Some(&key(1))));
        assert_eq!(page.damaged[0].backend(), Some("test"));
    }
}
