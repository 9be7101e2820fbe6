//! The JSON form of requests on a prefix, optionally without the key that equals the prefix.

use kv_core::{Error, Initial, KeyPrefix, Report, Result, WatchQuery, WatchTarget};
use serde::{Deserialize, Serialize};

use crate::shape::Segments;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClearRequest {
    prefix: Segments,
    /// True if the prefix does not cover the key with the same segments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    descendants: bool,
}

impl From<&KeyPrefix> for ClearRequest {
    fn from(prefix: &KeyPrefix) -> Self {
        Self { prefix: prefix.into(), descendants: prefix.excluded_key().is_some() }
    }
}

impl ClearRequest {
    pub(crate) fn prefix(&self) -> Result<KeyPrefix> {
        decode_prefix(&self.prefix, self.descendants)
    }
}

/// Decodes a prefix. If `descendants` is set, the result does not cover the key that equals the prefix.
fn decode_prefix(prefix: &Segments, descendants: bool) -> Result<KeyPrefix> {
    if descendants { Ok(KeyPrefix::descendants(&prefix.key()?)) } else { prefix.prefix() }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscribeRequest {
    channels: Segments,
    /// True if the prefix does not cover the channel with the same segments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    descendants: bool,
}

impl From<&KeyPrefix> for SubscribeRequest {
    fn from(channels: &KeyPrefix) -> Self {
        Self { channels: channels.into(), descendants: channels.excluded_key().is_some() }
    }
}

impl SubscribeRequest {
    pub(crate) fn channels(&self) -> Result<KeyPrefix> {
        decode_prefix(&self.channels, self.descendants)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate field of the request")]
pub(crate) struct WatchRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<Segments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Segments>,
    /// True if the prefix does not cover the key with the same segments.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    descendants: bool,
    #[serde(default)]
    snapshot: bool,
    #[serde(default)]
    keys_only: bool,
    /// True for `changed` events instead of `set` and `removed`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    changes_only: bool,
}

impl WatchRequest {
    pub(crate) fn new(query: &WatchQuery) -> Result<Self> {
        let (prefix, key, descendants) = match &query.target {
            WatchTarget::Prefix(prefix) => (Some(prefix.into()), None, prefix.excluded_key().is_some()),
            WatchTarget::Key(key) => (None, Some(key.into()), false),
            _ => return Err(Error::invalid("the protocol has no form for this watch target")),
        };
        let snapshot = match query.initial {
            Initial::None => false,
            Initial::Snapshot => true,
            _ => return Err(Error::invalid("the protocol has no form for this initial state of a watch")),
        };
        let (keys_only, changes_only) = match query.report {
            Report::Entries => (false, false),
            Report::Keys => (true, false),
            Report::Changes => (false, true),
            _ => return Err(Error::invalid("the protocol has no form for this report of a watch")),
        };
        Ok(Self { prefix, key, descendants, snapshot, keys_only, changes_only })
    }

    pub(crate) fn query(&self) -> Result<WatchQuery> {
        let mut query = match (&self.prefix, &self.key) {
            (Some(segments), None) => WatchQuery::prefix(decode_prefix(segments, self.descendants)?),
            (None, Some(key)) if !self.descendants => WatchQuery::key(key.key()?),
            _ => return Err(Error::invalid("a watch needs either `key`, or `prefix` and optionally `descendants`")),
        };
        if self.snapshot {
            query = query.with_snapshot();
        }
        match (self.keys_only, self.changes_only) {
            (false, false) => Ok(query),
            (true, false) => Ok(query.with_report(Report::Keys)),
            (false, true) => Ok(query.with_report(Report::Changes)),
            (true, true) => Err(Error::invalid("a watch takes either `keys_only` or `changes_only`")),
        }
    }
}
