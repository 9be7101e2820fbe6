//! Counters that lose increments, overflow, have the wrong format or lose their deadline.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{Entry, Error, Expiry, IncrementOptions, Key, KvStore, Result, SetOptions, When, delegate_store};

use super::conditions::yield_to_others;
use super::faults;
use super::hidden::Hidden;

faults! { counters:
    /// Reads, adds and writes in separate steps, and loses concurrent increments.
    get_and_then_set: "C-1"
        ["counters/a_thousand_at_once", "atomicity/counts_with_increments", "counters/counters_do_not_mix",
         "counters/up_and_down_at_once", "shared/increments_are_exact", "processes/increments_are_exact"]
        |inner, _clock| ReadThenWrite { inner };
    /// Overflows into negative numbers, as Deno's `sum` does.
    wrap_around: "C-1"
        ["counters/overflow_is_invalid"]
        |inner, _clock| Computed { inner, add: |old, by| Ok(old.wrapping_add(by)) };
    /// Returns the largest number on overflow instead of failing.
    overflow_saturates: "C-1"
        ["counters/overflow_is_invalid", "random/counters"]
        |inner, _clock| Computed { inner, add: |old, by| Ok(old.saturating_add(by)) };
    /// Adds in floating point, as a Lua script does, and is inexact beyond 2^53.
    add_in_floating_point: "C-1"
        ["counters/exact_at_the_ends", "counters/exact_beyond_doubles", "counters/extreme_amounts",
         "counters/goes_on_from_a_set"]
        |inner, _clock| Computed { inner, add: add_floats };
    /// Creates a counter with the number zero, and ignores the amount of the increment.
    first_amount_is_ignored: "C-1"
        ["counters/adds_and_subtracts", "counters/starts_anew_after_a_delete", "restart/counters_survive",
         "touch/a_counter"]
        |inner, _clock| FirstAmountIgnored { inner };
    /// Treats a value that is not a number as zero, and overwrites it.
    text_counts_as_zero: "C-1"
        ["counters/text_is_no_number"]
        |inner, _clock| TextAsZero { inner };
    /// Stores eight bytes instead of decimal text, as Spin's SQLite store did.
    stored_as_binary: "C-1"
        ["counters/a_counter_is_created_at_zero", "cancel/increment", "counters/a_missing_counter_is_created",
         "counters/get_shows_decimal_text", "versions/increment_outdates_a_version"]
        |inner, _clock| BinaryCounters { inner, counters: Hidden::default() };
    /// Removes the deadline of a counter when it increments the counter.
    increment_drops_the_deadline: "C-1"
        ["counters/keeps_the_deadline"]
        |inner, _clock| DropsDeadline { inner };
    /// Creates a counter without the requested time to live.
    creation_drops_the_ttl: "C-1"
        ["counters/keeps_the_deadline", "counters/expiry_is_for_creation", "counters/starts_anew_after_expiry"]
        |inner, _clock| DropsTtl { inner };
}

/// Returns the number in an entry, or zero if there is no entry.
fn number(entry: Option<&Entry>) -> Result<i64> {
    let Some(entry) = entry else { return Ok(0) };
    let text = std::str::from_utf8(&entry.value).unwrap_or_default();
    text.parse().map_err(|_| Error::invalid("the value is not a number"))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "this is the defect")]
fn add_floats(old: i64, by: i64) -> Result<i64> {
    old.checked_add(by).ok_or_else(|| Error::invalid("the sum is out of range"))?;
    Ok((old as f64 + by as f64) as i64)
}

/// Adds atomically, but with the function `add` instead of a correct sum.
struct Computed {
    inner: Arc<dyn KvStore>,
    add: fn(i64, i64) -> Result<i64>,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computed").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Computed {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info().capabilities)?;
        loop {
            let current = self.inner.get(key).await?;
            let sum = (self.add)(number(current.as_ref())?, by)?;
            let (when, expiry) = match current.and_then(|entry| entry.version) {
                Some(version) => (When::Version(version), Expiry::Keep),
                None => (When::Absent, options.expiry),
            };
            let options = SetOptions::default().with_when(when).with_expiry(expiry);
            if self.inner.set(key, sum.to_string().into(), &options).await?.is_stored() {
                return Ok(sum);
            }
        }
    }
}

#[derive(Debug)]
struct ReadThenWrite {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ReadThenWrite {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info().capabilities)?;
        let current = self.inner.get(key).await?;
        let sum = number(current.as_ref())?.checked_add(by).ok_or_else(|| Error::invalid("the sum is out of range"))?;
        yield_to_others().await;
        let expiry = if current.is_some() { Expiry::Keep } else { options.expiry };
        let _ = self.inner.set(key, sum.to_string().into(), &SetOptions::default().with_expiry(expiry)).await?;
        Ok(sum)
    }
}

#[derive(Debug)]
struct FirstAmountIgnored {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FirstAmountIgnored {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let create = SetOptions::default().with_when(When::Absent).with_expiry(options.expiry);
        if self.inner.set(key, "0".into(), &create).await?.is_stored() {
            return Ok(0);
        }
        self.inner.increment(key, by, options).await
    }
}

#[derive(Debug)]
struct TextAsZero {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TextAsZero {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        if number(self.inner.get(key).await?.as_ref()).is_err() {
            let keep = SetOptions::default().with_expiry(Expiry::Keep);
            let _ = self.inner.set(key, "0".into(), &keep).await?;
        }
        self.inner.increment(key, by, options).await
    }
}

#[derive(Debug)]
struct BinaryCounters {
    inner: Arc<dyn KvStore>,
    counters: Hidden<HashSet<Key>>,
}

#[async_trait]
impl KvStore for BinaryCounters {
    delegate_store!(self.inner, except get get_many increment);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let is_counter = self.counters.lock().contains(key);
        Ok(self.inner.get(key).await?.map(|mut entry| {
            if let (true, Ok(number)) = (is_counter, number(Some(&entry))) {
                entry.value = number.to_le_bytes().to_vec().into();
            }
            entry
        }))
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await?;
        self.counters.lock().insert(key.clone());
        Ok(sum)
    }
}

#[derive(Debug)]
struct DropsDeadline {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DropsDeadline {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let is_there = self.inner.contains(key).await?;
        let sum = self.inner.increment(key, by, options).await?;
        if is_there {
            self.inner.touch(key, kv_core::NewExpiry::Never).await?;
        }
        Ok(sum)
    }
}

#[derive(Debug)]
struct DropsTtl {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DropsTtl {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info().capabilities)?;
        self.inner.increment(key, by, &IncrementOptions::default()).await
    }
}
