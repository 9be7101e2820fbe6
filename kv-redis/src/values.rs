//! The entries of listed keys, as many as a page holds.

use kv_core::{Entry, Key, Result};
use redis::Value;

use crate::batch::by_bucket;
use crate::error::{Failure, read};
use crate::request::Request;
use crate::store::Shared;

/// How many keys one command looks at: the server does nothing else meanwhile.
const AT_ONCE: usize = 1_000;

/// How often a page is read on before it ends short.
const ROUNDS: usize = 4;

/// How many bytes of values are read of a group at least, where there are many.
const LEAST_SHARE: usize = 16 << 10;

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

    /// The entries of keys, in order, about as many as fill this many bytes of values, and at least one. What is not there, of
    /// another type or damaged is nothing.
    pub(crate) async fn entries(&self, keys: &[Key], room: usize) -> Result<Vec<Option<Entry>>> {
        let (mut entries, mut left, mut wanted) = (Vec::with_capacity(keys.len()), room, keys.len());
        for _ in 0..ROUNDS {
            let rest = keys.get(entries.len()..).unwrap_or_default();
            if rest.is_empty() || left == 0 {
                break;
            }
            let read = self.some_entries(rest.get(..wanted).unwrap_or(rest), left).await?;
            let used: usize = read.iter().flatten().map(|entry| entry.value.len()).sum();
            left = left.saturating_sub(used);
            // If what follows is as long on average, half of it will fit.
            wanted = (left.saturating_mul(2) / (used / read.len().max(1)).max(1)).max(1);
            entries.extend(read);
        }
        Ok(entries)
    }

    /// A script for each group reads as far as its share of the room goes: what a page reads is bounded by the page, however
    /// long the values are. The first key is answered in any case; others end the page where they are too long for a share.
    async fn some_entries(&self, keys: &[Key], room: usize) -> Result<Vec<Option<Entry>>> {
        let groups = by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), AT_ONCE);
        let share = match groups.len() {
            0 | 1 => room,
            many => (room.saturating_mul(2) / many).max(LEAST_SHARE.min(room)),
        };
        let requests: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(number, group)| {
                let keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
                let mut cmd = self.scripts.page.call(keys);
                cmd.arg(share).arg(i32::from(number == 0));
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
        let whole = answers.into_iter().map_while(|answer| answer);
        Ok(whole.zip(keys).map(|(value, key)| self.format.decode(key, value).unwrap_or_default()).collect())
    }
}
