//! Writes of a single key.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kv_core::adapter::Effect;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expiry, IncrementOptions, Key, NewExpiry, Result, SetOptions,
    SetOutcome, Version, When, stored,
};
use redis::{Cmd, Value};

use crate::codec::{WriteDeadline, checksum_state, deadline_fields, version_field};
use crate::error::Failure;
use crate::layout::{Place, Shape};
use crate::server::router::Request;
use crate::state::State;
use crate::write_gate::Write;

/// After this number of consecutive misses, only one set in this number of sets still tries to overwrite. A miss is an
/// unconditional set that found no entry to overwrite, or that did not try to overwrite.
const MANY_MISSES: u32 = 16;

/// A set that is ready to be sent.
#[derive(Debug)]
pub(crate) struct PreparedSet {
    pub(crate) place: Place,
    pub(crate) stored: Vec<u8>,
    pub(crate) deadline: WriteDeadline,
    pub(crate) version: Version,
}

impl State {
    /// Chooses the version of a set, and encodes the entry.
    pub(crate) fn prepare(&self, key: &Key, value: &[u8], expiry: Expiry) -> PreparedSet {
        let (place, version) = (self.layout.place(key), Version::random());
        // `Never` and `Keep` need no clock.
        let deadline = match expiry {
            Expiry::Never => WriteDeadline::Never,
            Expiry::Keep => WriteDeadline::Keep,
            expiry => WriteDeadline::resolve(expiry, self.router.now(place.slot)),
        };
        let stored = self.format.encode(key, &version, deadline, value);
        PreparedSet { place, stored, deadline, version }
    }

    /// Checks the state of the store, then the options, then the size of the value.
    pub(crate) fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.write_gate.check(Write::Store)?;
        self.info.limits.check_value(value.len())
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.check_set(&value, options)?;
        let set = self.prepare(key, &value, options.expiry);
        let effect = Effect::Write(self.visible_version(set.version));
        if options.when == When::Always
            && !options.return_previous
            && !matches!(set.deadline, WriteDeadline::Keep | WriteDeadline::Expired)
        {
            if self.may_overwrite() {
                let request = Request::new(set.place.slot, self.overwrite_command(&set));
                let reply = self.call(&request).await.map_err(|failure| failure.into_error(effect))?;
                if reply != Value::Nil {
                    if self.misses.load(Ordering::Relaxed) > 0 {
                        self.misses.store(0, Ordering::Relaxed);
                    }
                    return Ok(SetOutcome::Stored { version: self.visible_version(set.version), previous: None });
                }
                self.misses.fetch_add(1, Ordering::Relaxed);
            }
            // No entry was overwritten. The script sets the entry and adds its key to the index.
            let mut cmd = self.scripts.set_new.call(self.script_keys(&set.place));
            cmd.arg(&set.stored).arg(set.deadline.to_argument()).arg(key.as_str());
            self.call(&Request::new(set.place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
            return Ok(SetOutcome::Stored { version: self.visible_version(set.version), previous: None });
        }
        let request = self.set_request(key, &set, options);
        let reply = self.call(&request).await.map_err(|failure| failure.into_error(effect))?;
        self.set_outcome(key, reply, set.version)
    }

    /// True if a set should first try to overwrite an entry. After many consecutive misses only every sixteenth set
    /// tries, because a set of a new key takes one round trip with the script alone, and two round trips if the set
    /// tries to overwrite first.
    fn may_overwrite(&self) -> bool {
        if self.layout.shape != Shape::Indexed {
            return true;
        }
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < MANY_MISSES || misses.is_multiple_of(MANY_MISSES) {
            return true;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Returns the command of an unconditional set. With an index the command has `XX`, so it only overwrites: an
    /// existing entry is already in the index.
    fn overwrite_command(&self, set: &PreparedSet) -> Cmd {
        let mut cmd = Cmd::with_capacity(6, set.stored.len() + set.place.physical.len() + 32);
        cmd.arg("SET").arg(&set.place.physical).arg(&set.stored);
        if let WriteDeadline::At(millis) = set.deadline {
            cmd.arg("PXAT").arg(millis);
        }
        if self.layout.shape == Shape::Indexed {
            cmd.arg("XX");
        }
        cmd
    }

    /// Returns the request of a set by script, which checks the condition and updates the index.
    pub(crate) fn set_request(&self, key: &Key, set: &PreparedSet, options: &SetOptions) -> Request {
        let (when, operand) = condition(&options.when);
        let mut cmd = self.scripts.set.call(self.script_keys(&set.place));
        cmd.arg(&set.stored).arg(set.deadline.to_argument()).arg(when).arg(operand).arg(key.as_str());
        cmd.arg(i32::from(options.return_previous));
        Request::new(set.place.slot, cmd)
    }

    /// Returns the `KEYS` of a script on one entry: the key of the entry, then the key of its index if there is one.
    fn script_keys<'p>(&'p self, place: &'p Place) -> Vec<&'p [u8]> {
        let mut keys = vec![place.physical.as_slice()];
        keys.extend(self.layout.index(place.bucket).map(str::as_bytes));
        keys
    }

    /// Returns the outcome of a set by script, from the script's reply.
    pub(crate) fn set_outcome(&self, key: &Key, reply: Value, version: Version) -> Result<SetOutcome> {
        let effect = Effect::Write(self.visible_version(version));
        match status_and_entry(reply, effect)? {
            (1, previous) => {
                let previous = self.format.decode(key, previous).unwrap_or_default();
                Ok(SetOutcome::Stored { version: self.visible_version(version), previous })
            }
            (0, current) => Ok(SetOutcome::Refused { current: self.format.decode(key, current)? }),
            _ => Err(Failure::UnexpectedReply.into_error(effect)),
        }
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.write_gate.check(Write::Remove)?;
        let place = self.layout.place(key);
        if options.when == When::Always && !options.return_previous {
            let mut cmd = self.scripts.delete_many.call(self.script_keys(&place));
            cmd.arg(self.has_index()).arg(key.as_str());
            let reply = self.call(&Request::new(place.slot, cmd)).await;
            let was_deleted = deleted_flags(reply, 1).map(|mut flags| flags.next() == Some(true));
            let was_deleted = was_deleted.map_err(|failure| failure.into_error(Effect::Write(None)))?;
            return Ok(if was_deleted { DeleteOutcome::Deleted { previous: None } } else { DeleteOutcome::Missing });
        }
        let (when, operand) = condition(&options.when);
        let mut cmd = self.scripts.delete.call(self.script_keys(&place));
        cmd.arg(when).arg(operand).arg(key.as_str()).arg(i32::from(options.return_previous));
        let effect = Effect::Write(None);
        let reply = self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))?;
        match status_and_entry(reply, effect)? {
            (0, current) => Ok(DeleteOutcome::Refused { current: self.format.decode(key, current)? }),
            (1, previous) => {
                let previous: Option<Entry> = self.format.decode(key, previous).unwrap_or_default();
                Ok(DeleteOutcome::Deleted { previous })
            }
            (2, _) => Ok(DeleteOutcome::Missing),
            _ => Err(Failure::UnexpectedReply.into_error(effect)),
        }
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.check_open()?;
        self.write_gate.check(Write::Store)?;
        let place = self.layout.place(key);
        let deadline = WriteDeadline::resolve(expiry.into(), self.router.now(place.slot));
        let mut cmd = self.scripts.touch.call(self.script_keys(&place));
        cmd.arg(deadline.to_argument()).arg(deadline_fields(key, deadline)).arg(key.as_str());
        let effect = Effect::Write(None);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))? {
            Value::Int(touched) => Ok(touched == 1),
            _ => Err(Failure::UnexpectedReply.into_error(effect)),
        }
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.write_gate.check(Write::Store)?;
        let (place, version) = (self.layout.place(key), Version::random());
        let deadline = WriteDeadline::resolve(options.expiry, self.router.now(place.slot));
        let scratch = self.layout.bucket(place.bucket).map(|bucket| bucket.scratch.clone());
        let mut keys = vec![place.physical.as_slice()];
        // The plain format has no scratch key, because its script increments the counter in place. The key of the entry
        // is passed a second time, so that both scripts have the same `KEYS`.
        let scratch = scratch.as_ref().map_or(place.physical.as_slice(), |scratch| scratch.as_bytes());
        keys.push(scratch);
        keys.extend(self.layout.index(place.bucket).map(str::as_bytes));
        let script = if self.is_plain() { &self.scripts.increment_plain } else { &self.scripts.increment };
        let mut cmd = script.call(keys);
        cmd.arg(stored::encode(key, &version, deadline.stored(), &[])).arg(checksum_state(key, &version));
        cmd.arg(deadline.to_argument()).arg(by).arg(key.as_str());
        let effect = Effect::Write(self.visible_version(version));
        let unexpected_reply = || Failure::UnexpectedReply.into_error(effect);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(|failure| failure.into_error(effect))? {
            Value::BulkString(text) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(unexpected_reply)
            }
            _ => Err(unexpected_reply()),
        }
    }
}

/// Returns the arguments of the scripts for a condition: its name and its operand.
pub(crate) fn condition(when: &When) -> (&'static str, Vec<u8>) {
    match when {
        When::Absent => ("absent", Vec::new()),
        When::Present => ("present", Vec::new()),
        When::Version(version) => ("version", version_field(version)),
        When::Value(value) => ("value", value.to_vec()),
        // `Always`. The check of the options has already refused every condition that this version does not know.
        _ => ("always", Vec::new()),
    }
}

/// Splits the reply of a script that returns a status, and an entry or nil.
fn status_and_entry(reply: Value, effect: Effect) -> Result<(i64, Value), Error> {
    match reply {
        Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([Value::Int(status), entry]) => Ok((status, entry)),
            _ => Err(Failure::UnexpectedReply.into_error(effect)),
        },
        _ => Err(Failure::UnexpectedReply.into_error(effect)),
    }
}

/// Parses the reply of the `delete_many` script: for each of the `count` keys, true if an entry was deleted.
pub(crate) fn deleted_flags(
    reply: Result<Value, Failure>,
    count: usize,
) -> Result<impl Iterator<Item = bool>, Failure> {
    match reply? {
        Value::Array(flags) if flags.len() == count => Ok(flags.into_iter().map(|flag| flag == Value::Int(1))),
        _ => Err(Failure::UnexpectedReply),
    }
}
