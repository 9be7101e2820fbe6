//! Lists in order: from the buckets' indexes, merged, or from a scan.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use kv_core::{Key, KeyPrefix, ListItem, ListPage, ListQuery, Result};
use redis::Value;

use crate::batch::by_bucket;
use crate::error::{Failure, read};
use crate::layout::Shape;
use crate::request::Request;
use crate::runs::Runs;
use crate::store::Shared;

/// How many keys a page of an index has at most.
const PAGE: usize = 1_000;

impl Shared {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        if self.layout.shape == Shape::Ordered {
            self.list_index(query, range).await
        } else {
            self.list_scan(query, range).await
        }
    }

    async fn list_index(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(PAGE).min(PAGE);
        let buckets = self.layout.buckets_of(&query.prefix);
        // One bucket is asked for one more than is wanted, so that it tells whether it ends there; many, for their share.
        let share = if buckets.len() == 1 { wanted + 1 } else { wanted / buckets.len() + 8 };
        let mut runs = Runs::new(buckets, range, query.reverse, share);
        let mut keys = Vec::new();
        while keys.len() < wanted && runs.refill(self).await.map_err(read)? {
            runs.take(&mut keys, wanted);
        }
        let has_more = runs.has_more();
        let mut page = ListPage::default();
        let mut room = query.max_page_bytes.max(1);
        let is_whole = self.fill(query, &keys, &mut page, &mut room).await?;
        if is_whole {
            page.next = keys.pop().filter(|_| has_more);
        }
        Ok(page)
    }

    async fn list_scan(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let mut found = BTreeSet::new();
        self.scan(&query.prefix, |keys| found.extend(keys.into_iter().filter(|key| covers(&range, key)))).await?;
        let total = found.len();
        let wanted = query.limit.unwrap_or(usize::MAX);
        let keys: Vec<Key> = if query.reverse {
            found.into_iter().rev().take(wanted).collect()
        } else {
            found.into_iter().take(wanted).collect()
        };
        let mut page = ListPage::default();
        if query.keys_only {
            // The server has just shown them.
            page.next = keys.last().filter(|_| keys.len() < total).cloned();
            page.items = keys.into_iter().map(|key| ListItem { key, entry: None }).collect();
            return Ok(page);
        }
        let mut room = query.max_page_bytes.max(1);
        for keys in keys.chunks(PAGE) {
            if !self.fill(query, keys, &mut page, &mut room).await? {
                return Ok(page);
            }
        }
        page.next = keys.last().filter(|_| keys.len() < total).cloned();
        Ok(page)
    }

    /// Adds the entries of these keys to a page, in order, and tells whether it took them all; if not, the page says where to
    /// go on.
    async fn fill(&self, query: &ListQuery, keys: &[Key], page: &mut ListPage, room: &mut usize) -> Result<bool> {
        let groups = by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), PAGE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
                let mut cmd = self.scripts.page.call(keys);
                if query.keys_only {
                    cmd.arg("keys");
                } else {
                    cmd.arg(*room);
                }
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut answers: HashMap<&Key, Value> = HashMap::with_capacity(keys.len());
        for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
            let Value::Array(values) = answer.map_err(read)? else { return Err(read(Failure::Strange)) };
            answers.extend(group.members.iter().map(|(key, _)| *key).zip(values));
        }
        let mut before: Option<&Key> = None;
        for key in keys {
            // A bucket whose values fill the page answers for no more of its keys.
            let Some(answer) = answers.remove(key).filter(|_| *room > 0) else {
                page.next = before.cloned();
                return Ok(false);
            };
            before = Some(key);
            if query.keys_only {
                if answer == Value::Int(1) {
                    page.items.push(ListItem { key: key.clone(), entry: None });
                }
            } else if let Ok(Some(entry)) = self.format.decode(key, answer) {
                *room = room.saturating_sub(entry.value.len());
                page.items.push(ListItem { key: key.clone(), entry: Some(entry) });
            }
        }
        Ok(true)
    }

    /// Shows every key under a prefix that any server has, at least once, in no order.
    pub(crate) async fn scan(&self, prefix: &KeyPrefix, mut show: impl FnMut(Vec<Key>) + Send) -> Result<()> {
        self.check_open()?;
        let pattern = self.layout.pattern(prefix);
        for node in self.link.masters() {
            let mut cursor = b"0".to_vec();
            loop {
                let mut cmd = redis::cmd("SCAN");
                cmd.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000).arg("TYPE").arg("string");
                let answer = self.link.call_node(&node, &cmd).await.map_err(read)?;
                let (next, found): (Vec<u8>, Vec<Vec<u8>>) =
                    redis::from_redis_value(answer).map_err(|_| read(Failure::Strange))?;
                let keys = found.iter().filter_map(|physical| self.layout.key_at(physical));
                show(keys.filter(|key| prefix.covers(key)).collect());
                if next == b"0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }
}

fn covers((start, end): &(Bound<String>, Bound<String>), key: &Key) -> bool {
    let text = key.as_str();
    let is_behind = match start {
        Bound::Included(start) => text >= start.as_str(),
        Bound::Excluded(start) => text > start.as_str(),
        Bound::Unbounded => true,
    };
    let is_before = match end {
        Bound::Included(end) => text <= end.as_str(),
        Bound::Excluded(end) => text < end.as_str(),
        Bound::Unbounded => true,
    };
    is_behind && is_before
}
