//! Conditions that are judged wrongly, too early, or not at all, and outcomes that hide it.

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
    get_and_then_set: "S-4" "judges a condition by a get and then sets, where Spin fails"
        ["races/one_of_twenty_creators_wins", "races/swaps_by_value_lose_no_update",
         "races/one_creator_wins_after_each_delete", "races/one_of_many_swappers_wins", "shared/swaps_lose_no_update", "processes/swaps_lose_no_update"]
        |inner, _clock| CheckThenSet { inner };
    refusal_is_hidden: "S-2" "says that it stored although no row was changed"
        ["conditions/value_is_refused_over_nothing", "random/conditions"]
        |inner, _clock| HiddenRefusal { inner };
    refusal_is_an_error: "S-2" "makes an error of a condition that does not hold"
        ["conditions/value_is_refused_over_nothing"]
        |inner, _clock| LoudRefusal { inner };
    refusal_shows_nothing: "S-2" "refuses without the entry that is there"
        ["conditions/value_is_refused_over_another", "conditions/absent_is_refused_over_live",
         "conditions/version_is_refused_over_a_newer", "conditions/version_stores_over_its_own"]
        |inner, _clock| BareRefusal { inner };
    refusal_renews_the_ttl: "S-2" "gives the entry a new deadline although the condition did not hold"
        ["expiry/a_refusal_leaves_it", "conditions/refused_set_leaves_the_deadline",
         "conditions/zero_ttl_is_judged_and_refused"]
        |inner, _clock| RenewingRefusal { inner };
    values_are_compared_as_json: "S-2" "compares decoded JSON, so that `1` meets `1.0`"
        ["conditions/value_is_compared_byte_by_byte"]
        |inner, _clock| JsonValue { inner };
    absent_overwrites: "S-2" "creates a key that is there"
        ["conditions/absent_is_refused_over_live", "transactions/refused_leaves_versions"]
        |inner, _clock| Ignoring { inner, ignored: |when| *when == When::Absent };
    present_creates: "S-2" "replaces what is not there"
        ["conditions/present_is_refused_over_nothing", "batch/set_many_judges_one_by_one", "expired/to_present",
         "expired/to_transactions", "transactions/expired_is_absent_to_checks", "transactions/present_is_checked"]
        |inner, _clock| Ignoring { inner, ignored: |when| *when == When::Present };
    version_is_ignored: "S-2" "takes any version for the right one"
        ["conditions/version_is_refused_over_a_newer", "errors/unknown_versions_are_no_error",
         "conditions/version_is_refused_over_nothing", "versions/commit_outdates_a_version",
         "versions/every_write_outdates_a_version", "versions/unknown_version_is_refused"]
        |inner, _clock| Ignoring { inner, ignored: |when| matches!(when, When::Version(_)) };
    absent_never_holds: "S-2" "refuses to create, whatever is there"
        ["conditions/absent_stores_over_nothing", "conditions/absent_stores_after_a_delete",
         "conditions/values_swap_four_ways", "shared/conditions_hold_across", "processes/conditions_hold_across"]
        |inner, _clock| Refusing { inner, refused: |when| *when == When::Absent };
    present_never_holds: "S-2" "refuses to replace, whatever is there"
        ["conditions/present_stores_over_live"]
        |inner, _clock| Refusing { inner, refused: |when| *when == When::Present };
    value_never_holds: "S-2" "compares where values lie and not what they are"
        ["conditions/value_stores_over_the_same", "conditions/previous_comes_with_a_condition",
         "counters/conditions_see_the_number"]
        |inner, _clock| Refusing { inner, refused: |when| matches!(when, When::Value(_)) };
    delete_is_unconditional: "D-1" "deletes whether or not the condition holds"
        ["conditional_deletes/present_is_refused_over_nothing", "conditional_deletes/absent_is_refused_over_live",
         "conditional_deletes/present_is_refused_over_expired",
         "conditional_deletes/refused_delete_leaves_the_deadline", "conditional_deletes/value_is_refused_over_another",
         "conditional_deletes/value_is_refused_over_expired", "conditional_deletes/value_is_refused_over_nothing",
         "conditional_deletes/version_is_refused_over_expired"]
        |inner, _clock| EagerDelete { inner };
}

/// Stops here, so that others come in between.
pub(super) async fn stall() {
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
        stall().await;
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
struct LoudRefusal {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LoudRefusal {
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
struct BareRefusal {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for BareRefusal {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Refused { .. } => SetOutcome::Refused { current: None },
            stored @ SetOutcome::Stored { .. } => stored,
        })
    }
}

#[derive(Debug)]
struct RenewingRefusal {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RenewingRefusal {
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
struct JsonValue {
    inner: Arc<dyn KvStore>,
}

impl JsonValue {
    /// Numbers are floats, as in JavaScript.
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
impl KvStore for JsonValue {
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
struct Ignoring {
    inner: Arc<dyn KvStore>,
    ignored: fn(&When) -> bool,
}

#[async_trait]
impl KvStore for Ignoring {
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
struct Refusing {
    inner: Arc<dyn KvStore>,
    refused: fn(&When) -> bool,
}

#[async_trait]
impl KvStore for Refusing {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if (self.refused)(&options.when) {
            return Ok(SetOutcome::Refused { current: self.inner.get(key).await? });
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct EagerDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EagerDelete {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.inner.delete(key, &options.clone().with_when(When::Always)).await
    }
}
