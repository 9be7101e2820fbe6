//! The arithmetic of counters, for adapters that add in their own process instead of in the backend.

use crate::error::{Error, Result};

/// Adds `by` to the counter stored as `value` and returns the sum.
///
/// # Contract
/// - C-1: the sum is exact over the whole range of `i64`. A counter is the decimal text of an `i64` as this library
///   writes it: no plus sign, no space, no leading zero, no `-0`.
///
/// # Errors
/// `Invalid` if the value is not a counter or the sum overflows `i64`.
pub fn add(value: &[u8], by: i64) -> Result<i64> {
    let count = parse(value)
        .ok_or_else(|| Error::invalid("the value is not a counter: it is not the decimal text of an i64"))?;
    count.checked_add(by).ok_or_else(|| Error::invalid("the sum of the counter and the amount overflows an i64"))
}

fn parse(value: &[u8]) -> Option<i64> {
    match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => std::str::from_utf8(value).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_canonical_decimal_text() {
        for number in [0, 1, -1, 10, 9_007_199_254_740_993, i64::MAX, i64::MIN] {
            assert_eq!(add(number.to_string().as_bytes(), 0).unwrap(), number);
        }
        for text in ["", "+1", " 1", "1 ", "01", "-0", "-", "00", "1.0", "1e3", "9223372036854775808", "٣", "\0"] {
            assert!(add(text.as_bytes(), 0).is_err(), "{text:?}");
        }
        assert!(add(&[b'1', 0xff], 0).is_err());
    }

    #[test]
    fn a_sum_that_overflows_is_refused() {
        assert_eq!(add(b"9223372036854775806", 1).unwrap(), i64::MAX);
        assert!(add(b"9223372036854775807", 1).is_err());
        assert!(add(b"-9223372036854775808", -1).is_err());
    }
}
