//! Writes of a single key.

use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions, SetOutcome, Version,
    When, counter,
};

use crate::error::Failure;
use crate::state::State;
use crate::writer::job::Write;
use crate::writer::rows::Rows;

impl State {
    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let queue = self.queue()?;
        queue.call(self.to_set(key, value, options)?).await
    }

    /// Makes the write of a set, after the checks of its options and of its size.
    pub(crate) fn to_set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<Set> {
        options.check(self.capabilities())?;
        self.info.limits.check_value(value.len())?;
        Ok(Set { key: key.clone(), value, options: options.clone(), version: Version::random() })
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let queue = self.queue()?;
        options.check(self.capabilities())?;
        queue.call(Delete { key: key.clone(), options: options.clone() }).await
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.queue()?.call(Touch { key: key.clone(), expiry }).await
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let queue = self.queue()?;
        options.check(self.capabilities())?;
        let (key, version) = (key.clone(), Version::random());
        queue.call(Increment { key, by, expiry: options.expiry, version }).await
    }
}

#[derive(Debug)]
pub(crate) struct Set {
    key: Key,
    value: Bytes,
    options: SetOptions,
    version: Version,
}

impl Write for Set {
    type Outcome = SetOutcome;

    fn apply(&self, rows: &Rows<'_>) -> Result<SetOutcome, Failure> {
        let Self { key, value, options, version } = self;
        let mut previous = None;
        if options.when != When::Always || options.return_previous {
            let current = rows.current(key)?.map(|(entry, _)| entry);
            if !options.when.holds(current.as_ref()) {
                return Ok(SetOutcome::Refused { current });
            }
            previous = current.filter(|_| options.return_previous);
        }
        rows.write(key, value, version, rows.resolve(key, options.expiry)?)?;
        Ok(SetOutcome::Stored { version: Some(*version), previous })
    }

    fn version(&self) -> Option<Version> {
        Some(self.version)
    }

    fn bytes(&self) -> usize {
        self.value.len()
    }

    fn grows(&self) -> bool {
        true
    }
}

#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) key: Key,
    pub(crate) options: DeleteOptions,
}

impl Write for Delete {
    type Outcome = DeleteOutcome;

    fn apply(&self, rows: &Rows<'_>) -> Result<DeleteOutcome, Failure> {
        let Self { key, options: DeleteOptions { when, return_previous, .. } } = self;
        if *when == When::Always && !return_previous {
            let was_live = rows.remove(key)?;
            return Ok(if was_live { DeleteOutcome::Deleted { previous: None } } else { DeleteOutcome::Missing });
        }
        let current = rows.current(key)?.map(|(entry, _)| entry);
        if !when.holds(current.as_ref()) {
            return Ok(DeleteOutcome::Refused { current });
        }
        if current.is_none() {
            return Ok(DeleteOutcome::Missing);
        }
        rows.remove(key)?;
        Ok(DeleteOutcome::Deleted { previous: current.filter(|_| *return_previous) })
    }
}

#[derive(Debug)]
struct Touch {
    key: Key,
    expiry: NewExpiry,
}

impl Write for Touch {
    type Outcome = bool;

    fn apply(&self, rows: &Rows<'_>) -> Result<bool, Failure> {
        let Self { key, expiry } = self;
        if rows.current_deadline(key)?.is_none() {
            return Ok(false);
        }
        rows.move_deadline(key, rows.resolve(key, (*expiry).into())?)?;
        Ok(true)
    }

    fn grows(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Increment {
    key: Key,
    by: i64,
    expiry: Expiry,
    version: Version,
}

impl Write for Increment {
    type Outcome = i64;

    fn apply(&self, rows: &Rows<'_>) -> Result<i64, Failure> {
        let Self { key, by, expiry, version } = self;
        let (sum, deadline) = match rows.current(key)? {
            Some((entry, deadline)) => (counter::add(&entry.value, *by)?, deadline),
            None => (*by, rows.resolve(key, *expiry)?),
        };
        rows.write(key, sum.to_string().as_bytes(), version, deadline)?;
        Ok(sum)
    }

    fn version(&self) -> Option<Version> {
        Some(self.version)
    }

    fn grows(&self) -> bool {
        true
    }
}
