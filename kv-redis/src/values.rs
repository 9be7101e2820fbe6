//! The entries of listed keys, as many as a page holds.

use std::sync::atomic::Ordering;

use kv_core::{Entry, Key, Result};
use redis::{Cmd, Value};

use crate::batch::by_bucket;
use crate::error::{Failure, read};
use crate::layout::Place;
use crate::request::Request;
use crate::store::Shared;

/// How many keys one command looks at: the server does nothing else meanwhile.
const AT_ONCE: usize = 500;

/// How many bytes of each entry are read at least before its length is known.
const LEAST: usize = 256;

impl Shared {
    /// Which of the keys have a live entry.
    pub(crate) async fn which_live(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let groups = by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), AT_ONCE);
        let exists = |places: &mut dyn Iterator<Item = &Vec<u8>>| {
            let mut cmd = redis::cmd("EXISTS");
            places.for_each(|physical| {
                cmd.arg(physical);
            });
            cmd
        };
        let requests: Vec<_> = groups
            .iter()
            .map(|group| Request::new(group.slot, exists(&mut group.members.iter().map(|(_, place)| &place.physical))))
            .collect();
        let mut live = vec![true; keys.len()];
        let mut unsure = Vec::new();
        for (group, answer) in groups.into_iter().zip(self.call_many(&requests).await) {
            // Mostly all are there, and one number tells.
            match answer.map_err(read)? {
                Value::Int(count) if usize::try_from(count) == Ok(group.members.len()) => {}
                Value::Int(_) => unsure.extend(group.members),
                _ => return Err(read(Failure::Strange)),
            }
        }
        let requests: Vec<_> = unsure
            .iter()
            .map(|(_, place)| Request::new(place.slot, exists(&mut std::iter::once(&place.physical))))
            .collect();
        for ((number, _), answer) in unsure.iter().zip(self.call_many(&requests).await) {
            if let Some(is_live) = live.get_mut(*number) {
                *is_live = answer.map_err(read)? == Value::Int(1);
            }
        }
        Ok(live)
    }

    /// The entries of keys, in order, up to the one that fills this many bytes of values. What is not there, of another type or
    /// damaged is nothing.
    pub(crate) async fn entries(&self, keys: &[Key], room: usize) -> Result<Vec<Option<Entry>>> {
        if self.is_plain() { self.plain_entries(keys, room).await } else { self.whole_entries(keys, room).await }
    }

    async fn whole_entries(&self, keys: &[Key], room: usize) -> Result<Vec<Option<Entry>>> {
        let places: Vec<_> = keys.iter().map(|key| self.layout.place(key)).collect();
        let begin = (room.saturating_mul(2) / keys.len().max(1)).clamp(LEAST, 1 << 20);
        // Where all entries were short so far, so are most likely these.
        let stored = if self.longest.load(Ordering::Relaxed) <= begin {
            self.read_whole(&places).await?
        } else {
            self.read_bounded(&places, begin, room).await?
        };
        let longest = stored.iter().map(Vec::len).max().unwrap_or(0);
        let _ = self.longest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            Some(if before == usize::MAX { longest } else { longest.max(before / 2) })
        });
        let decode = |(bytes, key): (Vec<u8>, &Key)| match bytes.as_slice() {
            [] => None,
            _ => self.format.decode(key, Value::BulkString(bytes)).unwrap_or_default(),
        };
        Ok(stored.into_iter().zip(keys).map(decode).collect())
    }

    /// Reads all of each; nothing where there is none, or one of another type.
    async fn read_whole(&self, places: &[Place]) -> Result<Vec<Vec<u8>>> {
        let groups = by_bucket(places.iter().cloned().enumerate(), AT_ONCE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut cmd = redis::cmd("MGET");
                for (_, place) in &group.members {
                    cmd.arg(&place.physical);
                }
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut stored = vec![Vec::new(); places.len()];
        for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
            let Value::Array(values) = answer.map_err(read)? else { return Err(read(Failure::Strange)) };
            for ((number, _), value) in group.members.iter().zip(values) {
                if let (Some(place), Value::BulkString(bytes)) = (stored.get_mut(*number), value) {
                    *place = bytes;
                }
            }
        }
        Ok(stored)
    }

    /// Reads the beginning of each, so that an answer is never much larger than a page; and then what is missing of those that
    /// still fit.
    async fn read_bounded(&self, places: &[Place], begin: usize, room: usize) -> Result<Vec<Vec<u8>>> {
        let requests: Vec<_> = places
            .iter()
            .map(|place| {
                let mut cmd = Cmd::with_capacity(4, place.physical.len() + 24);
                cmd.arg("GETRANGE").arg(&place.physical).arg(0).arg(begin - 1);
                Request::new(place.slot, cmd)
            })
            .collect();
        let mut begins = Vec::with_capacity(places.len());
        for answer in self.call_many(&requests).await {
            begins.push(match answer {
                Ok(Value::BulkString(bytes)) => bytes,
                Ok(_) => return Err(read(Failure::Strange)),
                // Another type is not ours.
                Err(failure) if failure.code() == Some("WRONGTYPE") => Vec::new(),
                Err(failure) => return Err(read(failure)),
            });
        }
        let is_cut = |number: &usize| begins.get(*number).is_some_and(|bytes| bytes.len() == begin);
        let cut: Vec<usize> = (0..begins.len()).filter(is_cut).collect();
        if cut.is_empty() {
            return Ok(begins);
        }
        let mut lengths: Vec<usize> = begins.iter().map(Vec::len).collect();
        for (number, answer) in cut.iter().zip(self.ask("STRLEN", places, &cut).await) {
            let (Value::Int(length), Some(place)) = (answer.map_err(read)?, lengths.get_mut(*number)) else {
                return Err(read(Failure::Strange));
            };
            *place = usize::try_from(length).unwrap_or(0);
        }
        let end = fitting(&lengths, room);
        begins.truncate(end);
        let cut: Vec<usize> = cut.into_iter().filter(|&number| number < end).collect();
        for (number, answer) in cut.iter().zip(self.ask("GET", places, &cut).await) {
            let whole = match answer.map_err(read)? {
                Value::BulkString(bytes) => bytes,
                // It has expired meanwhile.
                _ => Vec::new(),
            };
            if let Some(place) = begins.get_mut(*number) {
                *place = whole;
            }
        }
        Ok(begins)
    }

    /// The answers to a command on some of the keys, one each.
    async fn ask(&self, name: &str, places: &[Place], numbers: &[usize]) -> Vec<Result<Value, Failure>> {
        let places = numbers.iter().filter_map(|&number| places.get(number));
        let requests: Vec<_> =
            places.map(|place| Request::new(place.slot, redis::cmd(name).arg(&place.physical).take())).collect();
        self.call_many(&requests).await
    }

    /// A script reads value and deadline of each, as far as a page goes.
    async fn plain_entries(&self, keys: &[Key], room: usize) -> Result<Vec<Option<Entry>>> {
        let groups = by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), AT_ONCE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
                let mut cmd = self.scripts.page.call(keys);
                cmd.arg(room);
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut answers: Vec<Option<Value>> = vec![None; keys.len()];
        for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
            let Value::Array(values) = answer.map_err(read)? else { return Err(read(Failure::Strange)) };
            for ((number, _), value) in group.members.iter().zip(values) {
                if let Some(place) = answers.get_mut(*number) {
                    *place = Some(value);
                }
            }
        }
        // A slot whose values fill the page answers for no more of its keys.
        let whole = answers.into_iter().map_while(|answer| answer);
        Ok(whole.zip(keys).map(|(value, key)| self.format.decode(key, value).unwrap_or_default()).collect())
    }
}

/// How many entries of these stored lengths there are up to the one that fills the room.
fn fitting(lengths: &[usize], room: usize) -> usize {
    let mut left = room;
    for (number, length) in lengths.iter().enumerate() {
        let value = length.saturating_sub(kv_core::stored::HEADER_BYTES);
        if value >= left {
            return number + 1;
        }
        left -= value;
    }
    lengths.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_the_entry_that_fills_it() {
        assert_eq!(fitting(&[34 + 10, 34 + 10, 34 + 10], 10), 1);
        assert_eq!(fitting(&[34 + 10, 34 + 10, 34 + 10], 11), 2);
        assert_eq!(fitting(&[34 + 10, 0, 34 + 10], 100), 3);
        assert_eq!(fitting(&[], 1), 0);
    }
}
