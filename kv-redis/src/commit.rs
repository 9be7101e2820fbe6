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
        let first = self.layout.place(first);
        let mut keys = Keys::default();
        let (mut arguments, mut versions) = (Vec::new(), Vec::new());
        for Check { key, when, .. } in &transaction.checks {
            let (when, wanted) = condition(when);
            arguments.extend([keys.number(self, key), when.into(), wanted]);
        }
        for mutation in &transaction.mutations {
            match mutation {
                Mutation::Set { key, value, expiry } => {
                    let set = self.prepare(key, value, *expiry);
                    let member = key.as_str().as_bytes().to_vec();
                    arguments.extend([keys.number(self, key), member, set.stored, set.until.text().into_bytes()]);
                    versions.push(self.told(set.version));
                }
                mutation => {
                    let key = mutation.key();
                    let member = key.as_str().as_bytes().to_vec();
                    arguments.extend([keys.number(self, key), member, Vec::new(), b"delete".to_vec()]);
                    versions.push(None);
                }
            }
        }
        let mut named: Vec<&[u8]> = keys.places.iter().map(|place| place.physical.as_slice()).collect();
        named.extend(self.layout.index(first.bucket).map(str::as_bytes));
        let mut cmd = self.scripts.commit.call(named);
        cmd.arg(self.has_index()).arg(transaction.checks.len());
        for argument in &arguments {
            cmd.arg(argument);
        }
        // Any version that was written tells that all of them were.
        let attempted: Option<Version> = versions.iter().flatten().next().copied();
        let effect = Effect::Writes(attempted);
        let answer = self.call(&Request::new(first.slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
        match redis::from_redis_value::<(i64, usize)>(answer) {
            Ok((1, _)) => Ok(CommitOutcome::Committed { versions }),
            Ok((0, check)) => Ok(CommitOutcome::Refused { check }),
            _ => Err(Failure::Strange.into_error(effect)),
        }
    }
}

/// The keys of a transaction, each once.
#[derive(Default)]
struct Keys<'t> {
    numbers: HashMap<&'t Key, usize>,
    places: Vec<Place>,
}

impl<'t> Keys<'t> {
    /// The number of a key, as the script counts.
    fn number(&mut self, shared: &Shared, key: &'t Key) -> Vec<u8> {
        let number = *self.numbers.entry(key).or_insert_with(|| {
            self.places.push(shared.layout.place(key));
            self.places.len()
        });
        number.to_string().into_bytes()
    }
}
