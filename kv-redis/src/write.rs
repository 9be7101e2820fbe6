//! Writes of single keys.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions,
    SetOutcome, Version, When, stored,
};
use redis::{Cmd, Value};

use crate::batch::removed;
use crate::codec::{Until, check_state, deadline_fields, version_field};
use crate::error::{Effect, Failure};
use crate::layout::{Place, Shape};
use crate::request::Request;
use crate::store::Shared;

/// After how many sets in a row that found nothing to overwrite most do not look any more.
const MANY_MISSES: u32 = 16;

/// A write that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) place: Place,
    pub(crate) stored: Vec<u8>,
    pub(crate) until: Until,
    pub(crate) version: Version,
}

impl Shared {
    pub(crate) fn is_plain(&self) -> bool {
        self.layout.shape == Shape::Plain
    }

    /// The version that a write gives, where the format has one.
    pub(crate) fn told(&self, version: Version) -> Option<Version> {
        (!self.is_plain()).then_some(version)
    }

    pub(crate) fn prepare(&self, key: &Key, value: &[u8], expiry: Expiry) -> Set {
        let (place, version) = (self.layout.place(key), Version::random());
        // The clock is read where it matters only.
        let until = match expiry {
            Expiry::Never => Until::Never,
            Expiry::Keep => Until::Keep,
            expiry => Until::resolve(expiry, self.link.now(place.slot)),
        };
        let stored = self.format.encode(key, &version, until, value);
        Set { place, stored, until, version }
    }

    pub(crate) fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.check_set(&value, options)?;
        let set = self.prepare(key, &value, options.expiry);
        let effect = Effect::Writes(self.told(set.version));
        if options.when == When::Always && !options.return_previous && !matches!(set.until, Until::Keep | Until::Gone) {
            if self.may_overwrite() {
                let request = Request::new(set.place.slot, self.plain_set(&set));
                let answer = self.call(&request).await.map_err(|failure| failure.into_error(effect))?;
                if answer != Value::Nil {
                    if self.misses.load(Ordering::Relaxed) > 0 {
                        self.misses.store(0, Ordering::Relaxed);
                    }
                    return Ok(SetOutcome::Stored { version: self.told(set.version), previous: None });
                }
                self.misses.fetch_add(1, Ordering::Relaxed);
            }
            // Only an entry that is there is in its index: any other goes through the script, which puts it there.
            let mut add = self.scripts.add.call(self.keys(&set.place));
            add.arg(&set.stored).arg(set.until.text()).arg(key.as_str());
            self.call(&Request::new(set.place.slot, add)).await.map_err(|failure| failure.into_error(effect))?;
            return Ok(SetOutcome::Stored { version: self.told(set.version), previous: None });
        }
        let request = self.set_script(key, &set, options);
        let answer = self.call(&request).await.map_err(|failure| failure.into_error(effect))?;
        self.set_outcome(key, answer, set.version)
    }

    /// Whether a set looks for an entry to overwrite. Where many in a row have found none, only some go on looking: the script
    /// alone does as well, in one round trip.
    fn may_overwrite(&self) -> bool {
        if self.layout.shape != Shape::Ordered {
            return true;
        }
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < MANY_MISSES || misses.is_multiple_of(MANY_MISSES) {
            return true;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// The one command of an unconditional write: with an index it takes only where the entry is there.
    fn plain_set(&self, set: &Set) -> Cmd {
        let mut cmd = Cmd::with_capacity(6, set.stored.len() + set.place.physical.len() + 32);
        cmd.arg("SET").arg(&set.place.physical).arg(&set.stored);
        if let Until::At(millis) = set.until {
            cmd.arg("PXAT").arg(millis);
        }
        if self.layout.shape == Shape::Ordered {
            cmd.arg("XX");
        }
        cmd
    }

    pub(crate) fn set_script(&self, key: &Key, set: &Set, options: &SetOptions) -> Request {
        let (when, wanted) = condition(&options.when);
        let mut cmd = self.scripts.set.call(self.keys(&set.place));
        cmd.arg(&set.stored).arg(set.until.text()).arg(when).arg(wanted).arg(key.as_str());
        cmd.arg(i32::from(options.return_previous));
        Request::new(set.place.slot, cmd)
    }

    /// The entry's key, and its index where there is one.
    fn keys<'p>(&'p self, place: &'p Place) -> Vec<&'p [u8]> {
        let mut keys = vec![place.physical.as_slice()];
        keys.extend(self.layout.index(place.bucket).map(str::as_bytes));
        keys
    }

    pub(crate) fn set_outcome(&self, key: &Key, answer: Value, version: Version) -> Result<SetOutcome> {
        let effect = Effect::Writes(self.told(version));
        match pair(answer, effect)? {
            (1, previous) => {
                let previous = self.format.decode(key, previous).unwrap_or_default();
                Ok(SetOutcome::Stored { version: self.told(version), previous })
            }
            (0, current) => Ok(SetOutcome::Refused { current: self.format.decode(key, current)? }),
            _ => Err(Failure::Strange.into_error(effect)),
        }
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        let place = self.layout.place(key);
        if options.when == When::Always && !options.return_previous {
            let mut cmd = self.scripts.remove.call(self.keys(&place));
            cmd.arg(self.has_index()).arg(key.as_str());
            let answer = self.call(&Request::new(place.slot, cmd)).await;
            let was_there = removed(answer, 1).map(|mut flags| flags.next() == Some(true));
            let was_there = was_there.map_err(|failure| failure.into_error(Effect::Writes(None)))?;
            return Ok(if was_there { DeleteOutcome::Deleted { previous: None } } else { DeleteOutcome::Missing });
        }
        let (when, wanted) = condition(&options.when);
        let mut cmd = self.scripts.delete.call(self.keys(&place));
        cmd.arg(when).arg(wanted).arg(key.as_str()).arg(i32::from(options.return_previous));
        let effect = Effect::Writes(None);
        let answer = self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
        match pair(answer, effect)? {
            (0, current) => Ok(DeleteOutcome::Refused { current: self.format.decode(key, current)? }),
            (1, previous) => {
                let previous: Option<Entry> = self.format.decode(key, previous).unwrap_or_default();
                Ok(DeleteOutcome::Deleted { previous })
            }
            (2, _) => Ok(DeleteOutcome::Missing),
            _ => Err(Failure::Strange.into_error(effect)),
        }
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let place = self.layout.place(key);
        let until = Until::resolve(expiry.into(), self.link.now(place.slot));
        let mut cmd = self.scripts.touch.call(self.keys(&place));
        cmd.arg(until.text()).arg(deadline_fields(key, until)).arg(key.as_str());
        let effect = Effect::Writes(None);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))? {
            Value::Int(moved) => Ok(moved == 1),
            _ => Err(Failure::Strange.into_error(effect)),
        }
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info.capabilities)?;
        let (place, version) = (self.layout.place(key), Version::random());
        let until = Until::resolve(options.expiry, self.link.now(place.slot));
        let scratch = self.layout.bucket(place.bucket).map(|bucket| bucket.scratch.clone());
        let mut keys = vec![place.physical.as_slice()];
        // Other programs' counters are counted where they are.
        let scratch = scratch.as_ref().map_or(place.physical.as_slice(), |scratch| scratch.as_bytes());
        keys.push(scratch);
        keys.extend(self.layout.index(place.bucket).map(str::as_bytes));
        let script = if self.is_plain() { &self.scripts.count } else { &self.scripts.increment };
        let mut cmd = script.call(keys);
        cmd.arg(stored::encode(key, &version, until.deadline(), &[])).arg(check_state(key, &version));
        cmd.arg(until.text()).arg(by).arg(key.as_str());
        let effect = Effect::Writes(self.told(version));
        let strange = || Failure::Strange.into_error(effect);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))? {
            Value::BulkString(text) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(strange)
            }
            _ => Err(strange()),
        }
    }
}

/// A condition as scripts take it.
pub(crate) fn condition(when: &When) -> (&'static str, Vec<u8>) {
    match when {
        When::Absent => ("absent", Vec::new()),
        When::Present => ("present", Vec::new()),
        When::Version(version) => ("version", version_field(version)),
        When::Value(value) => ("value", value.to_vec()),
        // `check` has refused what is not known here.
        _ => ("always", Vec::new()),
    }
}

/// What a script gives: a number, and an entry or nothing.
fn pair(answer: Value, effect: Effect) -> Result<(i64, Value), Error> {
    match answer {
        Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([Value::Int(number), entry]) => Ok((number, entry)),
            _ => Err(Failure::Strange.into_error(effect)),
        },
        _ => Err(Failure::Strange.into_error(effect)),
    }
}
