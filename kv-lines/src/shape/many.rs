//! The elements of a batch, so many and no more.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// An element costs more memory than it has bytes on the line, so a line that is full of the shortest ones is refused before
/// they are all there.
#[derive(Debug)]
pub(crate) struct Many<T>(Vec<T>);

impl<T> Many<T> {
    /// How many elements a request has at most.
    pub(crate) const MAX: usize = 65_536;

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for Many<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Many<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData)).map(Self)
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {} elements", Many::<T>::MAX)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            if all.len() == Many::<T>::MAX {
                return Err(A::Error::custom(format!("a request has at most {} elements", Many::<T>::MAX)));
            }
            all.push(element);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_elements_than_there_may_be_are_refused() {
        let line = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        let read = |count| serde_json::from_str::<Many<u8>>(&line(count)).map(|many| many.into_vec().len());
        assert_eq!(read(Many::<u8>::MAX).unwrap(), Many::<u8>::MAX);
        assert!(read(Many::<u8>::MAX + 1).unwrap_err().to_string().contains("at most 65536"));
    }
}
