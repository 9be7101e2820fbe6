//! The elements of a batch, limited in number.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The elements of a batch. Decoding stops at the limit, because an element takes more memory than its text: a line of
/// many very short elements must not exhaust the memory.
#[derive(Debug)]
pub(crate) struct Batch<T>(Vec<T>);

impl<T> Batch<T> {
    /// The maximum number of elements in a batch.
    pub(crate) const MAX: usize = 65_536;

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for Batch<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Batch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Batch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData)).map(Self)
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {} elements", Batch::<T>::MAX)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            if all.len() == Batch::<T>::MAX {
                return Err(A::Error::custom(format!("a request has at most {} elements", Batch::<T>::MAX)));
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
    fn a_batch_over_the_limit_is_rejected() {
        let line = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        let read = |count| serde_json::from_str::<Batch<u8>>(&line(count)).map(|batch| batch.into_vec().len());
        assert_eq!(read(Batch::<u8>::MAX).unwrap(), Batch::<u8>::MAX);
        assert!(read(Batch::<u8>::MAX + 1).unwrap_err().to_string().contains("at most 65536"));
    }
}
