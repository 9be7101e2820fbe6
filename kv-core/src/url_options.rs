//! The deserializer of URL options. Its errors contain no name and no value from the URL, because both may be secrets
//! that were typed in the wrong place, such as a password with a `?` in it.

use std::fmt::{self, Write};

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Deserializes options in the order given.
pub(crate) fn from_pairs<C: DeserializeOwned>(pairs: &[(String, String)]) -> Result<C, OptionError> {
    C::deserialize(Pairs { pairs, value: None })
}

/// The reason why options cannot be deserialized.
#[derive(Debug)]
pub(crate) struct OptionError {
    reason: String,
    /// The name of the option, if the name is known.
    option: Option<String>,
}

impl OptionError {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), option: None }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "`{option}`: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for OptionError {}

impl de::Error for OptionError {
    /// Hides the message, because it may quote the value.
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self::new("the value is not valid")
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}"))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}"))
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected {}", list(expected)))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let mut reason = format!("an option is unknown; known are {}", list(expected));
        if let Some(near) = expected.iter().find(|known| is_near(known, found)) {
            let _ = write!(reason, "; did you mean `{near}`?");
        }
        Self::new(reason)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the option `{field}` is missing"))
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// True if at most two insertions, removals or replacements of a character turn one name into the other.
fn is_near(known: &str, found: &str) -> bool {
    const MAX_EDITS: usize = 2;
    if known.len().abs_diff(found.len()) > MAX_EDITS {
        return false;
    }
    let mut row: Vec<usize> = (0..=known.chars().count()).collect();
    for (at, found) in found.chars().enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), at + 1);
        let mut left = at + 1;
        for (known, above) in known.chars().zip(row.iter_mut().skip(1)) {
            let cost = (diagonal + usize::from(known != found)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
    }
    row.last().is_some_and(|edits| *edits <= MAX_EDITS)
}

struct Pairs<'o> {
    pairs: &'o [(String, String)],
    /// The option whose name was read and whose value was not read yet.
    value: Option<&'o (String, String)>,
}

impl<'de> de::Deserializer<'de> for Pairs<'_> {
    type Error = OptionError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptionError> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = OptionError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, OptionError> {
        let Some((pair, rest)) = self.pairs.split_first() else { return Ok(None) };
        (self.pairs, self.value) = (rest, Some(pair));
        seed.deserialize(pair.0.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, OptionError> {
        let Some((name, value)) = self.value.take() else {
            return Err(OptionError::new("a value was requested before its name"));
        };
        // The name is known: an unknown name fails before its value is read.
        seed.deserialize(Text(value)).map_err(|error| OptionError { option: Some(name.clone()), ..error })
    }
}

/// The text of one value, which is parsed as the requested type.
struct Text<'o>(&'o str);

/// Parses the text as a scalar type, or passes the text to the visitor, which then reports the expected type.
macro_rules! parsed {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptionError> {
            match self.0.parse() {
                Ok(parsed) => visitor.$visit(parsed),
                Err(_) => visitor.visit_str(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Text<'_> {
    type Error = OptionError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptionError> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptionError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, OptionError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, OptionError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    parsed! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
