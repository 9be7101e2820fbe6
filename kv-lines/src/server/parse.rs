//! Parses a line into a request.
//!
//! The line is read twice: first for its `id` and `op`, and then for the arguments of that operation. The line is never
//! read into a generic JSON tree, because such a tree takes up to a hundred times the memory of the text.

use std::borrow::Cow;

use kv_core::{Error, Result};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::request::{ExpiryText, Request};
use crate::shape::{Batch, Segments};

/// The maximum length of an `id` in bytes. The length is limited, because each response and each event of a stream
/// repeats the `id`.
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
    "time",
    "ping",
    "flush",
    "sweep",
    "close",
];

/// Returns the id, or `null` if the line has no id, and the request.
pub(super) fn parse(line: &[u8]) -> (Value, Result<Request>) {
    let malformed = |error: &serde_json::Error| Error::invalid(format!("malformed request: {error}"));
    // serde would also decode the array `[id, op]` as an `Envelope`.
    if line.trim_ascii_start().first() != Some(&b'{') {
        let error = serde_json::from_slice::<IgnoredAny>(line).err();
        let error =
            error.map_or_else(|| Error::invalid("malformed request: a request is an object"), |e| malformed(&e));
        return (Value::Null, Err(error));
    }
    let Envelope { id, op } = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(error) => return (Value::Null, Err(malformed(&error))),
    };
    let id = match id.map_or("null", RawValue::get) {
        id if id.len() > MAX_ID_BYTES => {
            let error = format!("the `id` has {} bytes, the limit is {MAX_ID_BYTES}", id.len());
            return (Value::Null, Err(Error::invalid(error)));
        }
        id => match serde_json::from_str(id) {
            Ok(id) => id,
            // The JSON is valid, but a number is out of range or a string has a lone surrogate.
            Err(_) => return (Value::Null, Err(Error::invalid("the `id` cannot be repeated in the response"))),
        },
    };
    let request = match op {
        Some(op) if !OPERATIONS.contains(&op.as_ref()) => Err(serde_json::Error::unknown_variant(&op, OPERATIONS)),
        Some(op) => serde_json::Deserializer::from_slice(line).deserialize_map(Arguments(&op)),
        None => Err(serde_json::Error::missing_field("op")),
    };
    (id, request.map_err(|error| malformed(&error)))
}

#[derive(Deserialize)]
struct Envelope<'l> {
    #[serde(borrow)]
    id: Option<&'l RawValue>,
    #[serde(borrow)]
    op: Option<Cow<'l, str>>,
}

/// Visits the arguments of the named operation.
struct Arguments<'o>(&'o str);

impl<'de> Visitor<'de> for Arguments<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Request, A::Error> {
        let arguments = MapAccessDeserializer::new(ArgumentFields(fields));
        Ok(match self.0 {
            "info" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Info {})?,
            "get" => KeyArguments::deserialize(arguments).map(|KeyArguments { key }| Request::Get { key })?,
            "contains" => KeyArguments::deserialize(arguments).map(|KeyArguments { key }| Request::Contains { key })?,
            "set" => Request::Set(Deserialize::deserialize(arguments)?),
            "delete" => Request::Delete(Deserialize::deserialize(arguments)?),
            "get_many" => {
                KeysArguments::deserialize(arguments).map(|KeysArguments { keys }| Request::GetMany { keys })?
            }
            "set_many" => {
                ItemsArguments::deserialize(arguments).map(|ItemsArguments { items }| Request::SetMany { items })?
            }
            "delete_many" => {
                KeysArguments::deserialize(arguments).map(|KeysArguments { keys }| Request::DeleteMany { keys })?
            }
            "list" => Request::List(Deserialize::deserialize(arguments)?),
            "clear" => Request::Clear(Deserialize::deserialize(arguments)?),
            "touch" => TouchArguments::deserialize(arguments)
                .map(|TouchArguments { key, expiry }| Request::Touch { key, expiry })?,
            "increment" => Request::Increment(Deserialize::deserialize(arguments)?),
            "commit" => Request::Commit(Deserialize::deserialize(arguments)?),
            "watch" => Request::Watch(Deserialize::deserialize(arguments)?),
            "unwatch" => StreamArguments::deserialize(arguments)?.of().map(|of| Request::Unwatch { of })?,
            "publish" => Request::Publish(Deserialize::deserialize(arguments)?),
            "subscribe" => Request::Subscribe(Deserialize::deserialize(arguments)?),
            "unsubscribe" => StreamArguments::deserialize(arguments)?.of().map(|of| Request::Unsubscribe { of })?,
            "time" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Time {})?,
            "ping" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Ping {})?,
            "flush" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Flush {})?,
            "sweep" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Sweep {})?,
            "close" => NoArguments::deserialize(arguments).map(|NoArguments {}| Request::Close {})?,
            unknown => return Err(A::Error::unknown_variant(unknown, OPERATIONS)),
        })
    }
}

/// The fields of a request without `id` and `op`.
struct ArgumentFields<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ArgumentFields<A> {
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
struct NoArguments {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyArguments {
    key: Segments,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysArguments {
    keys: Batch<Segments>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemsArguments {
    items: Batch<crate::request::SetRequest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TouchArguments {
    key: Segments,
    expiry: ExpiryText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamArguments {
    of: Box<RawValue>,
}

impl StreamArguments {
    /// Returns the id of the stream.
    fn of<E: serde::de::Error>(self) -> Result<Value, E> {
        let text = self.of.get();
        if text.len() > MAX_ID_BYTES {
            return Err(E::custom(format!("`of` has {} bytes, the limit of an id is {MAX_ID_BYTES}", text.len())));
        }
        serde_json::from_str(text).map_err(E::custom)
    }
}
