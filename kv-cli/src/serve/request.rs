//! Requests as they stand on the line.

use std::time::Duration;

use anykv::{
    Bytes, DeleteOptions, Error, Expiry, IncrementOptions, Key, KeyPrefix, ListQuery, Mutation, NewExpiry, Result,
    SetItem, SetOptions, Transaction, Version, WatchQuery, When,
};
use serde::Deserialize;

use crate::json::{self, Encoding, Value};

/// What is asked, without the id.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    Info {},
    Get { key: Segments },
    Contains { key: Segments },
    Set(SetRequest),
    Delete(DeleteRequest),
    GetMany { keys: Vec<Segments> },
    SetMany { items: Vec<SetRequest> },
    DeleteMany { keys: Vec<Segments> },
    List(ListRequest),
    Clear { prefix: Segments },
    Touch { key: Segments, expiry: ExpiryText },
    Increment(IncrementRequest),
    Commit(CommitRequest),
    Watch(WatchRequest),
    Unwatch { of: serde_json::Value },
    Publish(PublishRequest),
    Subscribe { channels: Segments },
    Unsubscribe { of: serde_json::Value },
    Ping {},
    Flush {},
    Sweep {},
    Close {},
}

/// A key or a prefix.
#[derive(Debug, Deserialize)]
pub(super) struct Segments(Vec<String>);

impl Segments {
    pub(super) fn key(&self) -> Result<Key> {
        Key::new(&self.0)
    }

    pub(super) fn prefix(&self) -> Result<KeyPrefix> {
        KeyPrefix::new(&self.0)
    }

    pub(super) fn keys(all: &[Self]) -> Result<Vec<Key>> {
        all.iter().map(Self::key).collect()
    }
}

/// `"never"`, `"keep"`, `{"after_ms": 300000}` or `{"at_ms": 1767225600000}`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExpiryText {
    Never,
    Keep,
    AfterMs(u64),
    AtMs(u64),
}

impl ExpiryText {
    fn or_default(expiry: Option<Self>, default: Expiry) -> Expiry {
        match expiry {
            None => default,
            Some(Self::Never) => Expiry::Never,
            Some(Self::Keep) => Expiry::Keep,
            Some(Self::AfterMs(millis)) => Expiry::After(Duration::from_millis(millis)),
            Some(Self::AtMs(millis)) => json::moment(millis),
        }
    }

    pub(super) fn new_expiry(self) -> Result<NewExpiry> {
        match Self::or_default(Some(self), Expiry::Never) {
            Expiry::Never => Ok(NewExpiry::Never),
            Expiry::After(duration) => Ok(NewExpiry::After(duration)),
            Expiry::At(moment) => Ok(NewExpiry::At(moment)),
            _ => Err(Error::invalid("a touch that keeps the deadline does nothing")),
        }
    }
}

/// `"always"`, `"absent"`, `"present"`, `{"version": …}` or `{"value": {"value": …, "encoding": …}}`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    #[default]
    Always,
    Absent,
    Present,
    Version(Version),
    Value(Value),
}

impl Condition {
    fn when(self) -> Result<When> {
        Ok(match self {
            Self::Always => When::Always,
            Self::Absent => When::Absent,
            Self::Present => When::Present,
            Self::Version(version) => When::Version(version),
            Self::Value(value) => When::Value(bytes(value.value, value.encoding)?),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRequest {
    key: Segments,
    value: String,
    #[serde(default)]
    encoding: Encoding,
    expiry: Option<ExpiryText>,
    #[serde(default)]
    when: Condition,
    #[serde(default)]
    return_previous: bool,
}

impl SetRequest {
    pub(super) fn into_item(self, default: Expiry) -> Result<SetItem> {
        let Self { key, value, encoding, expiry, when, return_previous } = self;
        let mut options = SetOptions::default();
        options.expiry = ExpiryText::or_default(expiry, default);
        options.when = when.when()?;
        options.return_previous = return_previous;
        Ok(SetItem::new(key.key()?, bytes(value, encoding)?).with_options(options))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteRequest {
    key: Segments,
    #[serde(default)]
    when: Condition,
    #[serde(default)]
    return_previous: bool,
}

impl DeleteRequest {
    pub(super) fn into_parts(self) -> Result<(Key, DeleteOptions)> {
        let Self { key, when, return_previous } = self;
        let mut options = DeleteOptions::default();
        options.when = when.when()?;
        options.return_previous = return_previous;
        Ok((key.key()?, options))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRequest {
    prefix: Segments,
    after: Option<Segments>,
    before: Option<Segments>,
    #[serde(default)]
    reverse: bool,
    limit: Option<usize>,
    #[serde(default)]
    keys_only: bool,
    max_page_bytes: Option<usize>,
}

impl ListRequest {
    pub(super) fn query(&self) -> Result<ListQuery> {
        let Self { prefix, after, before, reverse, limit, keys_only, max_page_bytes } = self;
        let mut query = ListQuery::new(prefix.prefix()?);
        query.after = after.as_ref().map(Segments::key).transpose()?;
        query.before = before.as_ref().map(Segments::key).transpose()?;
        query.reverse = *reverse;
        query.limit = *limit;
        query.keys_only = *keys_only;
        query.max_page_bytes = max_page_bytes.unwrap_or(query.max_page_bytes);
        Ok(query)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IncrementRequest {
    pub(super) key: Segments,
    by: Whole,
    expiry: Option<ExpiryText>,
}

/// A whole number, or its decimal text for languages whose numbers are doubles.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`by` is a whole number of 64 bits, or its decimal text")]
enum Whole {
    Number(i64),
    Text(String),
}

impl IncrementRequest {
    pub(super) fn by(&self) -> Result<i64> {
        match &self.by {
            Whole::Number(by) => Ok(*by),
            Whole::Text(text) => {
                text.parse().map_err(|_| Error::invalid("`by` is a whole number of 64 bits, or its decimal text"))
            }
        }
    }

    pub(super) fn options(&self, default: Expiry) -> IncrementOptions {
        IncrementOptions::default().with_expiry(ExpiryText::or_default(self.expiry, default))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitRequest {
    #[serde(default)]
    checks: Vec<CheckRequest>,
    #[serde(default)]
    mutations: Vec<MutationRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    key: Segments,
    when: Condition,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum MutationRequest {
    Set {
        key: Segments,
        value: String,
        #[serde(default)]
        encoding: Encoding,
        expiry: Option<ExpiryText>,
    },
    Delete {
        key: Segments,
    },
}

impl CommitRequest {
    pub(super) fn into_transaction(self, default: Expiry) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        for CheckRequest { key, when } in self.checks {
            let (key, when) = (key.key()?, when.when()?);
            transaction = transaction.check(key, when);
        }
        for mutation in self.mutations {
            transaction.mutations.push(match mutation {
                MutationRequest::Set { key, value, encoding, expiry } => Mutation::Set {
                    key: key.key()?,
                    value: bytes(value, encoding)?,
                    expiry: ExpiryText::or_default(expiry, default),
                },
                MutationRequest::Delete { key } => Mutation::Delete { key: key.key()? },
            });
        }
        Ok(transaction)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchRequest {
    prefix: Option<Segments>,
    key: Option<Segments>,
    #[serde(default)]
    snapshot: bool,
    #[serde(default)]
    keys_only: bool,
}

impl WatchRequest {
    pub(super) fn query(&self) -> Result<WatchQuery> {
        let mut query = match (&self.prefix, &self.key) {
            (Some(prefix), None) => WatchQuery::prefix(prefix.prefix()?),
            (None, Some(key)) => WatchQuery::key(key.key()?),
            _ => return Err(Error::invalid("a watch has either `prefix` or `key`")),
        };
        if self.snapshot {
            query = query.with_snapshot();
        }
        query.keys_only = self.keys_only;
        Ok(query)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    channel: Segments,
    value: String,
    #[serde(default)]
    encoding: Encoding,
}

impl PublishRequest {
    pub(super) fn into_parts(self) -> Result<(Key, Bytes)> {
        Ok((self.channel.key()?, bytes(self.value, self.encoding)?))
    }
}

fn bytes(value: String, encoding: Encoding) -> Result<Bytes> {
    Value { value, encoding }.into_bytes().map_err(Error::invalid)
}
