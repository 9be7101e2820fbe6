//! Conversions of call arguments to keys and prefixes.

use super::{Key, KeyPrefix};
use crate::error::Result;

/// A value that the handle accepts as a key: a [`Key`], or its segments as an array, slice, `Vec` or tuple.
///
/// A single string is not accepted, because `"users#1"` could mean one segment or two. Write `["users"]` for one
/// segment.
///
/// # Examples
/// ```
/// use kv_core::{IntoKey, Key};
///
/// let id = String::from("123");
/// let key = Key::new(["users", "123"])?;
/// assert_eq!(["users", &id].into_key()?, key);
/// assert_eq!(("users", id).into_key()?, key);
/// # Ok::<(), kv_core::Error>(())
/// ```
pub trait IntoKey {
    /// Converts the value to a key.
    ///
    /// # Errors
    /// The errors of [`Key::new`].
    fn into_key(self) -> Result<Key>;
}

/// A value that the handle accepts as a prefix: a [`KeyPrefix`], or anything that [`IntoKey`] accepts. An empty list
/// and `()` are the empty prefix.
pub trait IntoPrefix {
    /// Converts the value to a prefix.
    ///
    /// # Errors
    /// The errors of [`KeyPrefix::new`].
    fn into_prefix(self) -> Result<KeyPrefix>;
}

impl IntoKey for Key {
    fn into_key(self) -> Result<Key> {
        Ok(self)
    }
}

impl IntoKey for &Key {
    fn into_key(self) -> Result<Key> {
        Ok(self.clone())
    }
}

impl IntoPrefix for KeyPrefix {
    fn into_prefix(self) -> Result<KeyPrefix> {
        Ok(self)
    }
}

impl IntoPrefix for &KeyPrefix {
    fn into_prefix(self) -> Result<KeyPrefix> {
        Ok(self.clone())
    }
}

impl IntoPrefix for Key {
    fn into_prefix(self) -> Result<KeyPrefix> {
        Ok(self.into())
    }
}

impl IntoPrefix for &Key {
    fn into_prefix(self) -> Result<KeyPrefix> {
        Ok(self.into())
    }
}

/// The empty prefix, which covers everything in the namespace.
impl IntoPrefix for () {
    fn into_prefix(self) -> Result<KeyPrefix> {
        Ok(KeyPrefix::ALL)
    }
}

macro_rules! segments {
    ($([$($generics:tt)*] $list:ty;)+) => {$(
        impl<S: AsRef<str>, $($generics)*> IntoKey for $list {
            fn into_key(self) -> Result<Key> {
                Key::new(self)
            }
        }

        impl<S: AsRef<str>, $($generics)*> IntoPrefix for $list {
            fn into_prefix(self) -> Result<KeyPrefix> {
                KeyPrefix::new(self)
            }
        }
    )+};
}

segments! {
    [const N: usize] [S; N];
    [const N: usize] &[S; N];
    [] &[S];
    [] Vec<S>;
    [] &Vec<S>;
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => {$(
        #[allow(non_snake_case, reason = "each segment has the name of its type parameter")]
        impl<$($name: AsRef<str>),+> IntoKey for ($($name,)+) {
            fn into_key(self) -> Result<Key> {
                let ($($name,)+) = &self;
                Key::new([$($name.as_ref()),+])
            }
        }

        #[allow(non_snake_case, reason = "each segment has the name of its type parameter")]
        impl<$($name: AsRef<str>),+> IntoPrefix for ($($name,)+) {
            fn into_prefix(self) -> Result<KeyPrefix> {
                let ($($name,)+) = &self;
                KeyPrefix::new([$($name.as_ref()),+])
            }
        }
    )+};
}

tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }
