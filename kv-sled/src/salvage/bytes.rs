//! Decoding numbers and strings in sled's format.

/// The bytes that remain to be decoded. Every method returns `None` if too few bytes remain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// The number of remaining bytes.
    pub(crate) fn remaining(self) -> usize {
        self.0.len()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Option<&'b [u8]> {
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    /// Decodes a number of variable length, one to nine bytes.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        Some(match first {
            0..=240 => u64::from(first),
            241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(self.byte()?),
            249 => {
                let [high, low] = self.array()?;
                2_288 + 256 * u64::from(high) + u64::from(low)
            }
            _ => {
                let bytes = self.slice(usize::from(first) - 247)?;
                bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
            }
        })
    }

    /// Decodes a string. The length of the string is in front of the string.
    pub(crate) fn string(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.slice(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_decode() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[240], 240),
            (&[241, 0], 240),
            (&[241, 1], 241),
            (&[248, 255], 2_287),
            (&[249, 0, 0], 2_288),
            (&[249, 255, 255], 67_823),
            (&[250, 0xF0, 0x08, 0x01], 67_824),
            (&[251, 0, 0, 0, 1], 1 << 24),
            (&[255, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
        ] {
            let mut rest = Bytes::new(bytes);
            assert_eq!((rest.number(), rest.remaining()), (Some(number), 0), "{bytes:?}");
            assert_eq!(Bytes::new(&bytes[..bytes.len() - 1]).number(), None, "{bytes:?}");
        }
    }
}
