//! The capacity of a bounded store and the weight of an entry.

use kv_core::{Error, Key, Limits, Namespace, Result};

use crate::slot::Slot;

/// The number of bytes that one entry takes in addition to the text of its key and its value.
pub(crate) const ENTRY_OVERHEAD: u64 = 512;

/// Weights are rounded up to a multiple of this number of bytes. A new value of about the same length then has the same
/// weight as the old value, and the engine can replace the old value in place. This is faster.
const STEP: u64 = 64;

/// The maximum weight of an entry without its value, in bytes.
const MAX_REST_BYTES: u64 = ENTRY_OVERHEAD + Namespace::MAX_KEY_BYTES as u64 + STEP;

/// The minimum of `max_bytes`. This minimum leaves room for one value of 8 MiB, which every store must accept (clause
/// V-3).
pub(crate) const MIN_BYTES: u64 = Limits::MIN_VALUE_BYTES as u64 + MAX_REST_BYTES;

/// The bounds of a store, converted into one capacity for the sum of all weights, and a weight of each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) capacity: u64,
    pub(crate) limits: Limits,
    weight: Weight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Each entry has the weight 1.
    One,
    /// The weight of an entry is its number of bytes, and at least `min`.
    Bytes { min: u32 },
}

impl Bounds {
    pub(crate) fn new(max_bytes: Option<u64>, max_entries: Option<u64>) -> Result<Self> {
        if max_entries == Some(0) {
            return Err(Error::invalid("`max_entries` is zero"));
        }
        let limits = match max_bytes {
            Some(bytes) if bytes < MIN_BYTES => {
                return Err(Error::invalid(format!(
                    "`max_bytes` is {bytes}: every store accepts values of 8 MiB, which needs at least {MIN_BYTES}"
                )));
            }
            Some(bytes) => {
                let max_value_bytes = usize::try_from(bytes - MAX_REST_BYTES).unwrap_or(usize::MAX);
                Limits::DEFAULT.with_max_value_bytes(max_value_bytes.min(Limits::DEFAULT.max_value_bytes))
            }
            None => Limits::DEFAULT,
        };
        let max_weight = limits.max_value_bytes as u64 + MAX_REST_BYTES;
        let (capacity, weight) = match (max_bytes, max_entries) {
            (Some(bytes), None) => (bytes, Weight::Bytes { min: 0 }),
            // If each entry has a weight of at least `max_bytes / max_entries`, a capacity of `max_bytes` keeps both
            // bounds. If `max_bytes / max_entries` is larger than the maximum weight of an entry, `max_entries` entries
            // never reach `max_bytes`, so the capacity counts entries.
            (Some(bytes), Some(entries)) => match u32::try_from(bytes.div_ceil(entries)) {
                Ok(min) if u64::from(min) <= max_weight => (bytes, Weight::Bytes { min }),
                _ => (entries, Weight::One),
            },
            (None, entries) => (entries.unwrap_or(u64::MAX), Weight::One),
        };
        Ok(Self { capacity, limits, weight })
    }

    pub(crate) fn weigh(&self, key: &Key, slot: &Slot) -> u32 {
        match self.weight {
            Weight::One => 1,
            Weight::Bytes { min } => {
                let bytes = ENTRY_OVERHEAD + (key.as_str().len() + slot.value.len()) as u64;
                // Cannot fail, because `limits` keeps every weight far below `u32::MAX`.
                u32::try_from(bytes.next_multiple_of(STEP)).unwrap_or(u32::MAX).max(min)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Deadline, Version};

    use super::*;

    fn weight(bounds: &Bounds, value_bytes: usize) -> u64 {
        let slot = Slot::new(vec![0; value_bytes].into(), Version::random(), Deadline::NEVER);
        bounds.weigh(&Key::new(["k"]).unwrap(), &slot).into()
    }

    #[test]
    fn a_store_of_the_smallest_size_holds_the_largest_accepted_value() {
        assert!(Bounds::new(Some(MIN_BYTES - 1), None).is_err());
        let bounds = Bounds::new(Some(MIN_BYTES), None).unwrap();
        assert_eq!(bounds.limits.max_value_bytes, Limits::MIN_VALUE_BYTES);
        assert!(weight(&bounds, bounds.limits.max_value_bytes) <= bounds.capacity);
        assert_eq!(Bounds::new(Some(1 << 40), None).unwrap().limits, Limits::DEFAULT);
    }

    #[test]
    fn one_capacity_keeps_both_bounds() {
        let bounds = Bounds::new(Some(100 << 20), Some(1_000)).unwrap();
        assert!(weight(&bounds, 0) * 1_000 >= bounds.capacity);
        assert!(weight(&bounds, 1 << 20) > 1 << 20);
        // Ten entries cannot fill 1 TiB, so the capacity is the number of entries.
        let bounds = Bounds::new(Some(1 << 40), Some(10)).unwrap();
        assert_eq!((bounds.capacity, weight(&bounds, 1 << 20)), (10, 1));
    }
}
