//! Committing a transaction.

use std::collections::HashMap;

use kv_core::adapter::Effect;
use kv_core::{Check, CommitOutcome, Key, Mutation, Result, Transaction, Version};

use crate::error::Failure;
use crate::layout::Place;
use crate::server::router::Request;
use crate::state::State;
use crate::write::condition;
use crate::write_gate::Write;

impl State {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.check_open()?;
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        self.write_gate.check(Write::Store)?;
        let Some(first) = transaction.keys().next() else {
            return Ok(CommitOutcome::Committed { versions: Vec::new() });
        };
        let slot = self.layout.place(first).slot;
        let mut numbering = Numbering::default();
        let (mut arguments, mut versions) = (Vec::new(), Vec::new());
        for Check { key, when, .. } in &transaction.checks {
            let (when, operand) = condition(when);
            arguments.extend([text(numbering.key(self, key)), when.into(), operand]);
        }
        for mutation in &transaction.mutations {
            let key = mutation.key();
            let number = numbering.key(self, key);
            arguments.extend([text(number), text(numbering.index(self, number)), key.as_str().as_bytes().to_vec()]);
            if let Mutation::Set { value, expiry, .. } = mutation {
                let set = self.prepare(key, value, *expiry);
                arguments.extend([set.stored, set.deadline.to_argument().into_bytes()]);
                versions.push(self.visible_version(set.version));
            } else {
                arguments.extend([Vec::new(), b"delete".to_vec()]);
                versions.push(None);
            }
        }
        let mut keys: Vec<&[u8]> = numbering.places.iter().map(|place| place.physical.as_slice()).collect();
        keys.extend(numbering.buckets.iter().filter_map(|&bucket| self.layout.index(bucket)).map(str::as_bytes));
        let mut cmd = self.scripts.commit.call(keys);
        cmd.arg(numbering.places.len()).arg(transaction.checks.len());
        for argument in &arguments {
            cmd.arg(argument);
        }
        // The commit is atomic. If a later read finds one of the new versions, all mutations were applied. Therefore
        // the error needs to carry only one version.
        let attempted: Option<Version> = versions.iter().flatten().next().copied();
        let effect = Effect::Write(attempted);
        let reply = self.call(&Request::new(slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
        match redis::from_redis_value::<(i64, usize)>(reply) {
            Ok((1, _)) => Ok(CommitOutcome::Committed { versions }),
            Ok((0, check)) => Ok(CommitOutcome::Refused { check }),
            _ => Err(Failure::UnexpectedReply.into_error(effect)),
        }
    }
}

/// The numbers with which the arguments of a script refer to the `KEYS` of the script. Each key and each index has one
/// number.
#[derive(Default)]
struct Numbering<'t> {
    numbers: HashMap<&'t Key, usize>,
    /// The place of each key, in the order of the numbers.
    places: Vec<Place>,
    /// The buckets whose indexes the transaction changes, in the order of the numbers.
    buckets: Vec<usize>,
}

impl<'t> Numbering<'t> {
    /// Returns the number of a key, from 1. A new key gets the next number.
    fn key(&mut self, state: &State, key: &'t Key) -> usize {
        *self.numbers.entry(key).or_insert_with(|| {
            self.places.push(state.layout.place(key));
            self.places.len()
        })
    }

    /// Returns the number of the index for the key with this number, from 1; 0 if the namespace has no index. On a
    /// single server a transaction may change the indexes of several buckets.
    fn index(&mut self, state: &State, key_number: usize) -> usize {
        let Some(bucket) = self.places.get(key_number - 1).map(|place| place.bucket) else { return 0 };
        if state.layout.index(bucket).is_none() {
            return 0;
        }
        let position = self.buckets.iter().position(|&known| known == bucket).unwrap_or_else(|| {
            self.buckets.push(bucket);
            self.buckets.len() - 1
        });
        position + 1
    }
}

fn text(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}
