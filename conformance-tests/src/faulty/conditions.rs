//! Conditions that are evaluated wrongly, too early or not at all, and outcomes that are wrong.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Error, ErrorKind, Expiry, Key, KvStore, NewExpiry, Result, SetOptions,
    SetOutcome, Transaction, Version, When, delegate_store,
};
use serde_json::Value;

use super::faults;

faults! { conditions:
    /// Evaluates a condition with a `get` and then sets, as Spin does.
    get_and_then_set: "S-4"
        ["races/one_of_twenty_creators_wins", "races/swaps_by_value_lose_no_update",
         "races/one_creator_wins_after_each_delete", "races/one_of_many_swappers_wins", "shared/swaps_lose_no_update",
         "processes/swaps_lose_no_update"]
        |inner, _clock| CheckThenSet { inner };
    /// Reports `Stored` although the condition did not hold and nothing was written.
    refusal_is_reported_as_stored: "S-2"
        ["conditions/value_is_refused_over_nothing", "random/conditions"]
        |inner, _clock| HiddenRefusal { inner };
    /// Returns an error if a condition does not hold.
    refusal_is_an_error: "S-2"
        ["conditions/value_is_refused_over_nothing"]
        |inner, _clock| RefusalAsError { inner };
    /// Refuses without returning the current entry.
    refusal_omits_the_current_entry: "S-2"
        ["conditions/value_is_refused_over_another", "conditions/absent_is_refused_over_live",
         "conditions/version_is_refused_over_a_newer", "conditions/version_stores_over_its_own"]
        |inner, _clock| RefusalWithoutEntry { inner };
    /// Moves the deadline of the entry although the condition did not hold.
    refusal_moves_the_deadline: "S-2"
        ["expiry/a_refusal_leaves_it", "conditions/refused_set_leaves_the_deadline",
         "conditions/zero_ttl_is_judged_and_refused"]
        |inner, _clock| RefusalMovesDeadline { inner };
    /// Compares decoded JSON, so `1` equals `1.0`.
    values_are_compared_as_json: "S-2"
        ["conditions/value_is_compared_byte_by_byte"]
        |inner, _clock| ComparedAsJson { inner };
    /// Overwrites an existing entry although the condition is `Absent`.
    absent_overwrites: "S-2"
        ["conditions/absent_is_refused_over_live", "transactions/refused_leaves_versions"]
        |inner, _clock| IgnoredConditions { inner, ignored: |when| *when == When::Absent };
    /// Creates a missing entry although the condition is `Present`.
    present_creates: "S-2"
        ["conditions/present_is_refused_over_nothing", "batch/set_many_judges_one_by_one", "expired/to_present",
         "expired/to_transactions", "transactions/expired_is_absent_to_checks", "transactions/present_is_checked"]
        |inner, _clock| IgnoredConditions { inner, ignored: |when| *when == When::Present };
    /// Accepts any version as the current one.
    version_is_ignored: "S-2"
        ["conditions/version_is_refused_over_a_newer", "errors/unknown_versions_are_no_error",
         "conditions/version_is_refused_over_nothing", "versions/commit_outdates_a_version",
         "versions/every_write_outdates_a_version", "versions/unknown_version_is_refused"]
        |inner, _clock| IgnoredConditions { inner, ignored: |when| matches!(when, When::Version(_)) };
    /// Refuses every write with the condition `Absent`, even if the key is missing.
    absent_never_holds: "S-2"
        ["conditions/absent_stores_over_nothing", "conditions/absent_stores_after_a_delete",
         "conditions/values_swap_four_ways", "shared/conditions_hold_across", "processes/conditions_hold_across"]
        |inner, _clock| RefusedConditions { inner, refused: |when| *when == When::Absent };
    /// Refuses every write with the condition `Present`, even if the key exists.
    present_never_holds: "S-2"
        ["conditions/present_stores_over_live"]
        |inner, _clock| RefusedConditions { inner, refused: |when| *when == When::Present };
    /// Compares the addresses of values instead of their bytes, so no condition on a value holds.
    value_never_holds: "S-2"
        ["conditions/value_stores_over_the_same", "conditions/previous_comes_with_a_condition",
         "counters/conditions_see_the_number"]
        |inner, _clock| RefusedConditions { inner, refused: |when| matches!(when, When::Value(_)) };
    /// Deletes even if the condition does not hold.
    delete_ignores_conditions: "D-1"
        ["conditional_deletes/present_is_refused_over_nothing", "conditional_deletes/absent_is_refused_over_live",
         "conditional_deletes/present_is_refused_over_expired",
         "conditional_deletes/refused_delete_leaves_the_deadline", "conditional_deletes/value_is_refused_over_another",
         "conditional_deletes/value_is_refused_over_expired", "conditional_deletes/value_is_refused_over_nothing",
         "conditional_deletes/version_is_refused_over_expired"]
        |inner, _clock| UnconditionalDelete { inner };
}

/// Yields a few times, so that other tasks run in between.
pub(super) async fn yield_to_others() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

#[derive(Debug)]
struct CheckThenSet {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for CheckThenSet {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.when == When::Always {
            return self.inner.set(key, value, options).await;
        }
        self.info().limits.check_value(value.len())?;
        let current = self.inner.get(key).await?;
        if !options.when.holds(current.as_ref()) {
            return Ok(SetOutcome::Refused { current });
        }
        yield_to_others().await;
        self.inner.set(key, value, &options.clone().with_when(When::Always)).await
    }
}

#[derive(Debug)]
struct HiddenRefusal {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for HiddenRefusal {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Refused { .. } => SetOutcome::Stored { version: Some(Version::random()), previous: None },
            stored @ SetOutcome::Stored { .. } => stored,
        })
    }
}

#[derive(Debug)]
struct RefusalAsError {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RefusalAsError {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        match self.inner.set(key, value, options).await? {
            SetOutcome::Refused { .. } => {
                Err(Error::new(ErrorKind::Invalid, "the condition does not hold").with_key(key))
            }
            stored @ SetOutcome::Stored { .. } => Ok(stored),
        }
    }
}

#[derive(Debug)]
struct RefusalWithoutEntry {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RefusalWithoutEntry {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Refused { .. } => SetOutcome::Refused { current: None },
            stored @ SetOutcome::Stored { .. } => stored,
        })
    }
}

#[derive(Debug)]
struct RefusalMovesDeadline {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RefusalMovesDeadline {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        let expiry = match options.expiry {
            Expiry::After(ttl) => NewExpiry::After(ttl),
            Expiry::At(moment) => NewExpiry::At(moment),
            _ => NewExpiry::Never,
        };
        if !outcome.is_stored() {
            self.inner.touch(key, expiry).await?;
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct ComparedAsJson {
    inner: Arc<dyn KvStore>,
}

impl ComparedAsJson {
    /// Decodes JSON with all numbers as floats, as JavaScript does.
    fn decoded(bytes: &[u8]) -> Option<Value> {
        fn as_floats(value: Value) -> Value {
            match value {
                Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
                Value::Array(items) => items.into_iter().map(as_floats).collect(),
                Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, as_floats(value))).collect(),
                other => other,
            }
        }
        serde_json::from_slice(bytes).ok().map(as_floats)
    }
}

#[async_trait]
impl KvStore for ComparedAsJson {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        if let When::Value(expected) = &options.when
            && let (Some(current), Some(expected)) = (self.inner.get(key).await?, Self::decoded(expected))
            && Self::decoded(&current.value) == Some(expected)
        {
            options.when = When::Value(current.value);
        }
        self.inner.set(key, value, &options).await
    }
}

#[derive(Debug)]
struct IgnoredConditions {
    inner: Arc<dyn KvStore>,
    ignored: fn(&When) -> bool,
}

#[async_trait]
impl KvStore for IgnoredConditions {
    delegate_store!(self.inner, except set set_many commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        if (self.ignored)(&options.when) {
            options.when = When::Always;
        }
        self.inner.set(key, value, &options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        for check in &mut transaction.checks {
            if (self.ignored)(&check.when) {
                check.when = When::Always;
            }
        }
        self.inner.commit(&transaction).await
    }
}

#[derive(Debug)]
struct RefusedConditions {
    inner: Arc<dyn KvStore>,
    refused: fn(&When) -> bool,
}

#[async_trait]
impl KvStore for RefusedConditions {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if (self.refused)(&options.when) {
            return Ok(SetOutcome::Refused { current: self.inner.get(key).await? });
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct UnconditionalDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for UnconditionalDelete {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.inner.delete(key, &options.clone().with_when(When::Always)).await
    }
}
