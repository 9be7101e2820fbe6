//! From a line to the request that it is.
//!
//! The line is read twice, for its `op` and for the arguments of that, and never as a tree of any JSON: such a tree takes up to
//! a hundred times the memory of its text.

use std::borrow::Cow;

use kv_core::{Error, Result};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::request::{ExpiryText, Request};
use crate::shape::{Many, Segments};

/// The longest `id`, in bytes. A response repeats it, and so does each event of a stream.
const MAX_ID_BYTES: usize = 1_024;

const OPERATIONS: &[&str] = &[
    "info",
    "get",
    "contains",
    "set",
    "delete",
    "get_many",
    "set_many",
    "delete_many",
    "list",
    "clear",
    "touch",
    "increment",
    "commit",
    "watch",
    "unwatch",
    "publish",
    "subscribe",
    "unsubscribe",
    "ping",
    "flush",
    "sweep",
    "close",
];

/// The id, as far as the line has one, and the request.
pub(super) fn parse(line: &[u8]) -> (Value, Result<Request>) {
    let malformed = |error: &serde_json::Error| Error::invalid(format!("malformed request: {error}"));
    // Else an array of an id and an operation would be one.
    if line.trim_ascii_start().first() != Some(&b'{') {
        let error = serde_json::from_slice::<IgnoredAny>(line).err();
        let error =
            error.map_or_else(|| Error::invalid("malformed request: a request is an object"), |e| malformed(&e));
        return (Value::Null, Err(error));
    }
    let Head { id, op } = match serde_json::from_slice(line) {
        Ok(head) => head,
        Err(error) => return (Value::Null, Err(malformed(&error))),
    };
    let id = match id.map_or("null", RawValue::get) {
        id if id.len() > MAX_ID_BYTES => {
            let error = format!("the `id` has {} bytes, the limit is {MAX_ID_BYTES}", id.len());
            return (Value::Null, Err(Error::invalid(error)));
        }
        id => serde_json::from_str(id).unwrap_or_default(),
    };
    let request = match op {
        Some(op) if !OPERATIONS.contains(&op.as_ref()) => Err(serde_json::Error::unknown_variant(&op, OPERATIONS)),
        Some(op) => serde_json::Deserializer::from_slice(line).deserialize_map(Arguments(&op)),
        None => Err(serde_json::Error::missing_field("op")),
    };
    (id, request.map_err(|error| malformed(&error)))
}

#[derive(Deserialize)]
struct Head<'l> {
    #[serde(borrow)]
    id: Option<&'l RawValue>,
    #[serde(borrow)]
    op: Option<Cow<'l, str>>,
}

/// Reads what an operation takes.
struct Arguments<'o>(&'o str);

impl<'de> Visitor<'de> for Arguments<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Request, A::Error> {
        let arguments = MapAccessDeserializer::new(Rest(fields));
        Ok(match self.0 {
            "info" => Nothing::deserialize(arguments).map(|Nothing {}| Request::Info {})?,
            "get" => OfKey::deserialize(arguments).map(|OfKey { key }| Request::Get { key })?,
            "contains" => OfKey::deserialize(arguments).map(|OfKey { key }| Request::Contains { key })?,
            "set" => Request::Set(Deserialize::deserialize(arguments)?),
            "delete" => Request::Delete(Deserialize::deserialize(arguments)?),
            "get_many" => OfKeys::deserialize(arguments).map(|OfKeys { keys }| Request::GetMany { keys })?,
            "set_many" => OfItems::deserialize(arguments).map(|OfItems { items }| Request::SetMany { items })?,
            "delete_many" => OfKeys::deserialize(arguments).map(|OfKeys { keys }| Request::DeleteMany { keys })?,
            "list" => Request::List(Deserialize::deserialize(arguments)?),
            "clear" => OfPrefix::deserialize(arguments).map(|OfPrefix { prefix }| Request::Clear { prefix })?,
            "touch" => OfTouch::deserialize(arguments).map(|OfTouch { key, expiry }| Request::Touch { key, expiry })?,
            "increment" => Request::Increment(Deserialize::deserialize(arguments)?),
            "commit" => Request::Commit(Deserialize::deserialize(arguments)?),
            "watch" => Request::Watch(Deserialize::deserialize(arguments)?),
            "unwatch" => OfStream::deserialize(arguments)?.of().map(|of| Request::Unwatch { of })?,
            "publish" => Request::Publish(Deserialize::deserialize(arguments)?),
            "subscribe" => {
                OfChannels::deserialize(arguments).map(|OfChannels { channels }| Request::Subscribe { channels })?
            }
            "unsubscribe" => OfStream::deserialize(arguments)?.of().map(|of| Request::Unsubscribe { of })?,
            "ping" => Nothing::deserialize(arguments).map(|Nothing {}| Request::Ping {})?,
            "flush" => Nothing::deserialize(arguments).map(|Nothing {}| Request::Flush {})?,
            "sweep" => Nothing::deserialize(arguments).map(|Nothing {}| Request::Sweep {})?,
            "close" => Nothing::deserialize(arguments).map(|Nothing {}| Request::Close {})?,
            unknown => return Err(A::Error::unknown_variant(unknown, OPERATIONS)),
        })
    }
}

/// The fields of a request without those that every one has.
struct Rest<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.0.next_key::<Cow<'de, str>>()? {
            if name != "id" && name != "op" {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKey {
    key: Segments,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKeys {
    keys: Many<Segments>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfItems {
    items: Many<crate::request::SetRequest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPrefix {
    prefix: Segments,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTouch {
    key: Segments,
    expiry: ExpiryText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfChannels {
    channels: Segments,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStream {
    of: Box<RawValue>,
}

impl OfStream {
    /// The id. None that is longer names a stream.
    fn of<E: serde::de::Error>(self) -> Result<Value, E> {
        let text = self.of.get();
        if text.len() > MAX_ID_BYTES {
            return Err(E::custom(format!("`of` has {} bytes, an id at most {MAX_ID_BYTES}", text.len())));
        }
        serde_json::from_str(text).map_err(E::custom)
    }
}
