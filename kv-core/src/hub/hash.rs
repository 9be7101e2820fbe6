//! The hash of places.

/// Hashes canonical text. The hash is not keyed: an attacker who chooses keys can only make the hub's filter useless,
/// and then a notification costs a look-up in a map.
#[inline]
pub(super) fn hash(text: &[u8]) -> u64 {
    let mut hash = SEED ^ text.len() as u64;
    let mut rest = text;
    while let Some((word, after)) = rest.split_first_chunk() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = after;
    }
    if rest.is_empty() && !text.is_empty() {
        return hash;
    }
    // The last word overlaps the word before it. Assembling it from single bytes would stall the processor.
    let last = if let Some(word) = text.last_chunk() {
        u64::from_le_bytes(*word)
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
    } else {
        rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    mix(hash, last)
}

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Multiplies to 128 bits and adds both halves, so that each bit of the word changes all bits of the result.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "takes the lower half of the product")]
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0xD6E8_FEB8_6659_FD93;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn texts_that_differ_in_one_byte_differ_in_the_low_bits_of_the_hash() {
        for length in 1..40 {
            for at in 0..length {
                let mut text = vec![b'a'; length];
                let low_bits: HashSet<u64> = (b'0'..=b'9')
                    .map(|byte| {
                        text[at] = byte;
                        hash(&text) & 0xFF_FFFF
                    })
                    .collect();
                assert_eq!(low_bits.len(), 10, "length {length}, byte {at}");
            }
        }
    }
}
