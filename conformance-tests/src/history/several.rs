//! Calls of a client on several keys: batches and transactions.

use kv_core::{Capability, CommitOutcome, Key, KvStore, SetItem, SetOptions, Transaction as StoreTransaction, Version};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::model::{Answer, Call, Condition, Moment, Transaction, Value};
use super::record::{Client, Edge, Workload};
use crate::failure::{Failure, Verdict, ensure_eq};

/// The call on one key, as a part of a transaction.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    condition: Condition,
    /// A set or a delete; `None` if the transaction only checks the key.
    change: Option<Call>,
}

impl Client {
    /// Makes a call on two or three keys in random order, and records it as one operation of each key.
    pub(super) async fn call_several(&mut self) -> Verdict {
        let mut names = Workload::KEYS.to_vec();
        names.shuffle(&mut self.rng);
        names.truncate(self.rng.random_range(2..=Workload::KEYS.len()));
        match self.rng.random_range(0..8) {
            0 => self.get_many(&names).await,
            1 | 2 => self.set_many(&names).await,
            3 => self.delete_many(&names).await,
            _ if self.cx.has(Capability::Transactions) => self.commit(&names).await,
            _ => self.set_many(&names).await,
        }
    }

    fn keys(&self, names: &[&'static str]) -> Vec<Key> {
        names.iter().map(|name| self.workload.key(name)).collect()
    }

    async fn get_many(&mut self, names: &[&'static str]) -> Verdict {
        let called = self.moment(Edge::Call);
        let results = self.store.get_many(&self.keys(names)).await;
        ensure_eq!(results.len(), names.len(), "the number of results that `get_many` returned");
        for (&name, result) in names.iter().zip(results) {
            let answer = result.map(|entry| self.found(name, entry));
            self.record(called, name, Call::Get, answer).await?;
        }
        Ok(())
    }

    async fn set_many(&mut self, names: &[&'static str]) -> Verdict {
        let mut items = Vec::new();
        let mut calls = Vec::new();
        for &name in names {
            let condition = self.condition(name);
            let call = self.write(condition, false);
            let Call::Set { value, lifetime, .. } = call else { continue };
            let options = SetOptions::default().with_when(self.when(name, condition)).with_expiry(lifetime.into());
            items.push(SetItem::new(self.workload.key(name), value.to_string()).with_options(options));
            calls.push((name, value, call));
        }
        let called = self.moment(Edge::Call);
        let results = self.store.set_many(&items).await;
        ensure_eq!(results.len(), names.len(), "the number of results that `set_many` returned");
        for ((name, value, call), result) in calls.into_iter().zip(results) {
            let answer = result.map(|outcome| self.set_outcome(name, value, false, outcome));
            self.record(called, name, call, answer).await?;
        }
        Ok(())
    }

    async fn delete_many(&mut self, names: &[&'static str]) -> Verdict {
        let called = self.moment(Edge::Call);
        let results = self.store.delete_many(&self.keys(names)).await;
        ensure_eq!(results.len(), names.len(), "the number of results that `delete_many` returned");
        for (&name, result) in names.iter().zip(results) {
            let answer = result.map(|outcome| self.delete_outcome(name, false, outcome));
            let call = Call::Delete { condition: Condition::Always, previous: false };
            self.record(called, name, call, answer).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, names: &[&'static str]) -> Verdict {
        let mut transaction = StoreTransaction::new();
        let mut checks = Vec::new();
        let mut parts = Vec::new();
        for &name in names {
            let condition = if self.rng.random_bool(0.3) { self.condition(name) } else { Condition::Always };
            let change = match self.rng.random_range(0..8) {
                0 if condition != Condition::Always => None,
                0 | 1 => Some(Call::Delete { condition, previous: false }),
                _ => Some(self.write(condition, false)),
            };
            if condition != Condition::Always {
                transaction = transaction.check(self.workload.key(name), self.when(name, condition));
                checks.push((name, condition));
            }
            let key = self.workload.key(name);
            transaction = match change {
                Some(Call::Set { value, lifetime, .. }) => transaction.set(key, value.to_string(), lifetime.into()),
                Some(_) => transaction.delete(key),
                None => transaction,
            };
            parts.push(Part { name, condition, change });
        }
        let called = self.moment(Edge::Call);
        match self.store.commit(&transaction).await {
            Ok(CommitOutcome::Committed { versions }) => self.committed(called, parts, Some(&versions)).await,
            Ok(CommitOutcome::Refused { check }) => {
                let Some(&(name, condition)) = checks.get(check) else {
                    return Err(Failure::new(format!("`commit` named the check {check}, which the transaction lacks")));
                };
                self.record(called, name, Call::Check { condition }, Ok(Ok(Answer::Holds(false)))).await
            }
            Err(error) => {
                if self.may_have_happened(error).await? {
                    self.committed(called, parts, None).await?;
                }
                Ok(())
            }
        }
    }

    /// Records a transaction: a committed transaction if there are versions, else a transaction that may have been
    /// committed.
    async fn committed(&mut self, called: Moment, parts: Vec<Part>, versions: Option<&[Option<Version>]>) -> Verdict {
        let mut sets: Vec<(&'static str, Value)> = Vec::new();
        let mut versions_of_changes = versions.unwrap_or_default().iter();
        for Part { name, condition, change } in parts {
            let (call, answer) = match change {
                None => (Call::Check { condition }, Answer::Holds(true)),
                Some(call) => {
                    let version = versions_of_changes.next().copied().flatten();
                    if let Call::Set { value, .. } = call {
                        sets.push((name, value));
                        self.seen.insert(name, (value, version));
                    }
                    (call, if matches!(call, Call::Set { .. }) { Answer::Stored } else { Answer::Absent })
                }
            };
            match versions {
                Some(_) => self.record(called, name, call, Ok(Ok(answer))).await?,
                None if change.is_some() => self.record_unanswered(called, name, call),
                None => {}
            }
        }
        self.history.transactions.push(Transaction { client: self.index, called, sets });
        Ok(())
    }
}
