//! The JSON form of requests. The client serializes requests, and the server deserializes them.

use std::time::{Duration, SystemTime};

use kv_core::{
    Bytes, Check, DeleteOptions, Error, Expiry, IncrementOptions, Key, ListQuery, Mutation, NewExpiry, Result, SetItem,
    SetOptions, Transaction, Version, When,
};
use serde::{Deserialize, Serialize};

use crate::line::MAX_VALUES_BYTES;
pub(crate) use crate::prefix_request::{ClearRequest, SubscribeRequest, WatchRequest};
use crate::shape::{self, Batch, Encoding, Integer, Segments, Value};

/// A request without its id. `server::parse` deserializes it.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    Info {},
    Get { key: Segments },
    Contains { key: Segments },
    Set(SetRequest),
    Delete(DeleteRequest),
    GetMany { keys: Batch<Segments> },
    SetMany { items: Batch<SetRequest> },
    DeleteMany { keys: Batch<Segments> },
    List(ListRequest),
    Clear(ClearRequest),
    Touch { key: Segments, expiry: ExpiryText },
    Increment(IncrementRequest),
    Commit(CommitRequest),
    Watch(WatchRequest),
    Unwatch { of: serde_json::Value },
    Publish(PublishRequest),
    Subscribe(SubscribeRequest),
    Unsubscribe { of: serde_json::Value },
    Time {},
    Ping {},
    Flush {},
    Sweep {},
    Close {},
}

/// An expiry: `"never"`, `"keep"`, `{"after_ms": 300000}` or `{"at_ms": 1767225600000}`; `after_ns` and `at_ns` are in
/// nanoseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpiryText {
    Never,
    Keep,
    AfterMs(u64),
    AtMs(u64),
    AfterNs(u64),
    AtNs(u64),
}

impl ExpiryText {
    /// Encodes an expiry in nanoseconds, or in milliseconds if the nanoseconds do not fit into 64 bits. Nanoseconds are
    /// exact: rounding up to milliseconds would move a moment that has just passed into the future.
    fn of(expiry: Expiry) -> Result<Self> {
        match expiry {
            Expiry::Never => Ok(Self::Never),
            Expiry::Keep => Ok(Self::Keep),
            Expiry::After(duration) => Ok(match u64::try_from(duration.as_nanos()) {
                Ok(nanos) => Self::AfterNs(nanos),
                Err(_) => Self::AfterMs(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            }),
            Expiry::At(moment) => {
                let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Ok(u64::try_from(since.as_nanos()).map_or_else(|_| Self::AtMs(shape::unix_millis(moment)), Self::AtNs))
            }
            _ => Err(Error::invalid("the protocol has no form for this expiry")),
        }
    }

    pub(crate) fn of_new(expiry: NewExpiry) -> Result<Self> {
        Self::of(expiry.into())
    }

    /// Decodes an expiry. A missing expiry becomes `default`.
    fn or_default(expiry: Option<Self>, default: Expiry) -> Expiry {
        match expiry {
            None => default,
            Some(Self::Never) => Expiry::Never,
            Some(Self::Keep) => Expiry::Keep,
            Some(Self::AfterMs(millis)) => Expiry::After(Duration::from_millis(millis)),
            Some(Self::AtMs(millis)) => shape::expiry_at_unix(Duration::from_millis(millis)),
            Some(Self::AfterNs(nanos)) => Expiry::After(Duration::from_nanos(nanos)),
            Some(Self::AtNs(nanos)) => shape::expiry_at_unix(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn new_expiry(self) -> Result<NewExpiry> {
        match Self::or_default(Some(self), Expiry::Never) {
            Expiry::Never => Ok(NewExpiry::Never),
            Expiry::After(duration) => Ok(NewExpiry::After(duration)),
            Expiry::At(moment) => Ok(NewExpiry::At(moment)),
            _ => Err(Error::invalid("a touch with `keep` would do nothing")),
        }
    }
}

/// A condition: `"always"`, `"absent"`, `"present"`, `{"version": …}` or `{"value": {"value": …, "encoding": …}}`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    #[default]
    Always,
    Absent,
    Present,
    Version(Version),
    Value(Value),
}

impl Condition {
    fn of(when: &When) -> Result<Self> {
        match when {
            When::Always => Ok(Self::Always),
            When::Absent => Ok(Self::Absent),
            When::Present => Ok(Self::Present),
            When::Version(version) => Ok(Self::Version(*version)),
            When::Value(value) => Ok(Self::Value(Value::compact(value))),
            _ => Err(Error::invalid("the protocol has no form for this condition")),
        }
    }

    fn when(self) -> Result<When> {
        Ok(match self {
            Self::Always => When::Always,
            Self::Absent => When::Absent,
            Self::Present => When::Present,
            Self::Version(version) => When::Version(version),
            Self::Value(value) => When::Value(value.into_bytes()?),
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRequest {
    key: Segments,
    value: String,
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    encoding: Encoding,
    expiry: Option<ExpiryText>,
    #[serde(default)]
    when: Condition,
    #[serde(default)]
    return_previous: bool,
}

impl SetRequest {
    pub(crate) fn new(key: &Key, value: &[u8], options: &SetOptions) -> Result<Self> {
        let Value { value, encoding } = Value::compact(value);
        Ok(Self {
            key: key.into(),
            value,
            encoding,
            expiry: Some(ExpiryText::of(options.expiry)?),
            when: Condition::of(&options.when)?,
            return_previous: options.return_previous,
        })
    }

    pub(crate) fn into_item(self, default: Expiry) -> Result<SetItem> {
        let Self { key, value, encoding, expiry, when, return_previous } = self;
        let mut options = SetOptions::default();
        options.expiry = ExpiryText::or_default(expiry, default);
        options.when = when.when()?;
        options.return_previous = return_previous;
        Ok(SetItem::new(key.key()?, Value { value, encoding }.into_bytes()?).with_options(options))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteRequest {
    key: Segments,
    #[serde(default)]
    when: Condition,
    #[serde(default)]
    return_previous: bool,
}

impl DeleteRequest {
    pub(crate) fn new(key: &Key, options: &DeleteOptions) -> Result<Self> {
        let when = Condition::of(&options.when)?;
        Ok(Self { key: key.into(), when, return_previous: options.return_previous })
    }

    pub(crate) fn into_parts(self) -> Result<(Key, DeleteOptions)> {
        let Self { key, when, return_previous } = self;
        let mut options = DeleteOptions::default();
        options.when = when.when()?;
        options.return_previous = return_previous;
        Ok((key.key()?, options))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListRequest {
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

impl From<&ListQuery> for ListRequest {
    fn from(query: &ListQuery) -> Self {
        // If a prefix excludes its own key, its list starts after that key.
        let after = query.after.clone().max(query.prefix.excluded_key());
        Self {
            prefix: (&query.prefix).into(),
            after: after.as_ref().map(Segments::from),
            before: query.before.as_ref().map(Segments::from),
            reverse: query.reverse,
            limit: query.limit,
            keys_only: query.keys_only,
            max_page_bytes: Some(query.max_page_bytes),
        }
    }
}

impl ListRequest {
    /// The maximum number of items in a page.
    const MAX_ITEMS: usize = 8_192;

    pub(crate) fn query(&self) -> Result<ListQuery> {
        let Self { prefix, after, before, reverse, limit, keys_only, max_page_bytes } = self;
        let mut query = ListQuery::new(prefix.prefix()?);
        query.after = after.as_ref().map(Segments::key).transpose()?;
        query.before = before.as_ref().map(Segments::key).transpose()?;
        query.reverse = *reverse;
        // A response is one line in memory, so a short request must not get a page of any size.
        query.limit = Some(limit.unwrap_or(Self::MAX_ITEMS).min(Self::MAX_ITEMS));
        query.keys_only = *keys_only;
        query.max_page_bytes = max_page_bytes.unwrap_or(query.max_page_bytes).min(MAX_VALUES_BYTES);
        Ok(query)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncrementRequest {
    pub(crate) key: Segments,
    by: Integer,
    expiry: Option<ExpiryText>,
}

impl IncrementRequest {
    pub(crate) fn new(key: &Key, by: i64, options: &IncrementOptions) -> Result<Self> {
        Ok(Self { key: key.into(), by: Integer(by), expiry: Some(ExpiryText::of(options.expiry)?) })
    }

    pub(crate) fn by(&self) -> i64 {
        self.by.0
    }

    pub(crate) fn options(&self, default: Expiry) -> IncrementOptions {
        IncrementOptions::default().with_expiry(ExpiryText::or_default(self.expiry, default))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitRequest {
    #[serde(default)]
    checks: Batch<CheckRequest>,
    #[serde(default)]
    mutations: Batch<MutationRequest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    key: Segments,
    when: Condition,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum MutationRequest {
    Set {
        key: Segments,
        value: String,
        #[serde(default, skip_serializing_if = "Encoding::is_text")]
        encoding: Encoding,
        expiry: Option<ExpiryText>,
    },
    Delete {
        key: Segments,
    },
}

impl CommitRequest {
    pub(crate) fn new(transaction: &Transaction) -> Result<Self> {
        let check = |check: &Check| Ok(CheckRequest { key: (&check.key).into(), when: Condition::of(&check.when)? });
        let mutation = |mutation: &Mutation| match mutation {
            Mutation::Set { key, value, expiry } => {
                let Value { value, encoding } = Value::compact(value);
                let expiry = Some(ExpiryText::of(*expiry)?);
                Ok(MutationRequest::Set { key: key.into(), value, encoding, expiry })
            }
            Mutation::Delete { key } => Ok(MutationRequest::Delete { key: key.into() }),
            _ => Err(Error::invalid("the protocol has no form for this mutation")),
        };
        Ok(Self {
            checks: transaction.checks.iter().map(check).collect::<Result<_>>()?,
            mutations: transaction.mutations.iter().map(mutation).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn mutations(&self) -> usize {
        self.mutations.len()
    }

    pub(crate) fn into_transaction(self, default: Expiry) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        for CheckRequest { key, when } in self.checks.into_vec() {
            let (key, when) = (key.key()?, when.when()?);
            transaction = transaction.check(key, when);
        }
        for mutation in self.mutations.into_vec() {
            transaction.mutations.push(match mutation {
                MutationRequest::Set { key, value, encoding, expiry } => Mutation::Set {
                    key: key.key()?,
                    value: Value { value, encoding }.into_bytes()?,
                    expiry: ExpiryText::or_default(expiry, default),
                },
                MutationRequest::Delete { key } => Mutation::Delete { key: key.key()? },
            });
        }
        Ok(transaction)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishRequest {
    channel: Segments,
    value: String,
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    encoding: Encoding,
}

impl PublishRequest {
    pub(crate) fn new(channel: &Key, message: &[u8]) -> Self {
        let Value { value, encoding } = Value::compact(message);
        Self { channel: channel.into(), value, encoding }
    }

    pub(crate) fn into_parts(self) -> Result<(Key, Bytes)> {
        let Self { channel, value, encoding } = self;
        Ok((channel.key()?, Value { value, encoding }.into_bytes()?))
    }
}
