//! Transactions.

use std::collections::HashMap;

use kv_core::{Check, CommitOutcome, Key, Mutation, Result, Transaction, Version};

use crate::error::{Effect, Failure};
use crate::layout::Place;
use crate::request::Request;
use crate::store::Shared;
use crate::write::condition;

impl Shared {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        let Some(first) = transaction.keys().next() else {
            return Ok(CommitOutcome::Committed { versions: Vec::new() });
        };
        let slot = self.layout.place(first).slot;
        let mut keys = Keys::default();
        let (mut arguments, mut versions) = (Vec::new(), Vec::new());
        for Check { key, when, .. } in &transaction.checks {
            let (when, wanted) = condition(when);
            arguments.extend([text(keys.number(self, key)), when.into(), wanted]);
        }
        for mutation in &transaction.mutations {
            let key = mutation.key();
            let number = keys.number(self, key);
            arguments.extend([text(number), text(keys.index(self, number)), key.as_str().as_bytes().to_vec()]);
            if let Mutation::Set { value, expiry, .. } = mutation {
                let set = self.prepare(key, value, *expiry);
                arguments.extend([set.stored, set.until.text().into_bytes()]);
                versions.push(self.told(set.version));
            } else {
                arguments.extend([Vec::new(), b"delete".to_vec()]);
                versions.push(None);
            }
        }
        let mut named: Vec<&[u8]> = keys.places.iter().map(|place| place.physical.as_slice()).collect();
        named.extend(keys.buckets.iter().filter_map(|&bucket| self.layout.index(bucket)).map(str::as_bytes));
        let mut cmd = self.scripts.commit.call(named);
        cmd.arg(keys.places.len()).arg(transaction.checks.len());
        for argument in &arguments {
            cmd.arg(argument);
        }
        // Any version that was written tells that all of them were.
        let attempted: Option<Version> = versions.iter().flatten().next().copied();
        let effect = Effect::Writes(attempted);
        let answer = self.call(&Request::new(slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
        match redis::from_redis_value::<(i64, usize)>(answer) {
            Ok((1, _)) => Ok(CommitOutcome::Committed { versions }),
            Ok((0, check)) => Ok(CommitOutcome::Refused { check }),
            _ => Err(Failure::Strange.into_error(effect)),
        }
    }
}

/// The keys of a transaction and the buckets whose indexes it changes, each once.
#[derive(Default)]
struct Keys<'t> {
    numbers: HashMap<&'t Key, usize>,
    places: Vec<Place>,
    buckets: Vec<usize>,
}

impl<'t> Keys<'t> {
    /// The number of a key, as the script counts.
    fn number(&mut self, shared: &Shared, key: &'t Key) -> usize {
        *self.numbers.entry(key).or_insert_with(|| {
            self.places.push(shared.layout.place(key));
            self.places.len()
        })
    }

    /// The number of the index that a key is in, as the script counts: on one server a transaction reaches over all buckets.
    fn index(&mut self, shared: &Shared, number: usize) -> usize {
        let Some(bucket) = self.places.get(number - 1).map(|place| place.bucket) else { return 0 };
        if shared.layout.index(bucket).is_none() {
            return 0;
        }
        let known = self.buckets.iter().position(|&known| known == bucket).unwrap_or_else(|| {
            self.buckets.push(bucket);
            self.buckets.len() - 1
        });
        known + 1
    }
}

fn text(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}
