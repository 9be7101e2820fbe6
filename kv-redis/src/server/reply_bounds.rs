//! Bounds on the replies of a server.
//!
//! The driver collects a reply of any length in memory before it returns it, and searches an unfinished line again from
//! its start with every read. So a counter follows the frames of the protocol, and ends the connection of a server that
//! sends more than any reply of ours has.

use std::fmt;

/// Bytes of a line: a number, a status or an error.
const MAX_LINE: usize = 64 << 10;

/// Values in one reply, nested ones included. The longest replies are invalidations of many keys.
const MAX_VALUES: u64 = 1 << 20;

/// The depth of nested values, as in the driver.
const MAX_DEPTH: usize = 100;

/// The reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadReply {
    /// The server answered with a record of TLS.
    Tls,
    /// The server answers without TLS.
    NoTls,
    /// The server has as many connections as it allows.
    Full,
    /// The bytes are not Redis' protocol.
    Foreign,
    /// A value, a line or the number of values is larger than in any reply of ours.
    TooLarge,
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "the server answers with TLS",
            Self::NoTls => "the server answers without TLS",
            Self::Full => "the server has as many connections as it allows",
            Self::Foreign => "the server's answer is not Redis' protocol",
            Self::TooLarge => "a reply of the server is too large",
        })
    }
}

impl std::error::Error for BadReply {}

/// Follows the frames of the replies on one connection.
#[derive(Debug)]
pub(crate) struct ReplyBounds {
    /// Bytes of the longest value.
    max_value: u64,
    place: Place,
    /// The values that are still to come, for each open list of the current reply.
    open: Vec<u64>,
    /// The values of the current reply so far.
    values: u64,
    is_first: bool,
}

/// The place of the next byte.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The first byte of a value, which is its type.
    Type,
    /// A line of a value of this type, with its length and its number so far.
    Line { kind: u8, length: usize, number: Number },
    /// The bytes of a value and the end of its line.
    Bytes(u64),
}

/// The number that a line holds.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    value: u64,
    is_negative: bool,
}

impl Number {
    fn add(&mut self, byte: u8) {
        match byte {
            b'-' => self.is_negative = true,
            b'0'..=b'9' => self.value = self.value.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
            _ => {}
        }
    }
}

impl ReplyBounds {
    pub(crate) fn new(max_value: u64) -> Self {
        Self { max_value, place: Place::Type, open: Vec::new(), values: 0, is_first: true }
    }

    /// Follows the next received bytes.
    pub(crate) fn follow(&mut self, mut received: &[u8]) -> Result<(), BadReply> {
        // The server sends it before the first command, and the driver would take it as the reply to one.
        if self.is_first && received.starts_with(b"-ERR max number of clients") {
            return Err(BadReply::Full);
        }
        while let Some((&byte, rest)) = received.split_first() {
            match &mut self.place {
                Place::Type => {
                    if !b"+-:_,#($!=*%~|>".contains(&byte) {
                        // 21 is an alert of TLS, 22 a handshake.
                        return Err(if self.is_first && matches!(byte, 21 | 22) {
                            BadReply::Tls
                        } else {
                            BadReply::Foreign
                        });
                    }
                    self.is_first = false;
                    self.values += 1;
                    if self.values > MAX_VALUES {
                        return Err(BadReply::TooLarge);
                    }
                    self.place = Place::Line { kind: byte, length: 0, number: Number::default() };
                    received = rest;
                }
                Place::Line { kind, length, number } => {
                    received = rest;
                    *length += 1;
                    if *length > MAX_LINE {
                        return Err(BadReply::TooLarge);
                    }
                    if byte == b'\n' {
                        let (kind, number) = (*kind, *number);
                        self.end_line(kind, number)?;
                    } else {
                        number.add(byte);
                    }
                }
                Place::Bytes(remaining) => {
                    let available = u64::try_from(received.len()).unwrap_or(u64::MAX);
                    let taken = available.min(*remaining);
                    *remaining -= taken;
                    received = received.get(usize::try_from(taken).unwrap_or(usize::MAX)..).unwrap_or_default();
                    if *remaining == 0 {
                        self.end_value();
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, kind: u8, number: Number) -> Result<(), BadReply> {
        let count = if number.is_negative { 0 } else { number.value };
        let values = match kind {
            b'$' | b'!' | b'=' if number.is_negative => 0,
            b'$' | b'!' | b'=' => {
                if count > self.max_value {
                    return Err(BadReply::TooLarge);
                }
                self.place = Place::Bytes(count + 2);
                return Ok(());
            }
            b'*' | b'~' | b'>' => count,
            b'%' => count.saturating_mul(2),
            // The value that the attributes belong to counts as one of them.
            b'|' => count.saturating_mul(2).saturating_add(1),
            _ => 0,
        };
        if values > MAX_VALUES || self.open.len() >= MAX_DEPTH {
            return Err(BadReply::TooLarge);
        }
        self.place = Place::Type;
        if values > 0 {
            self.open.push(values);
        } else {
            self.end_value();
        }
        Ok(())
    }

    fn end_value(&mut self) {
        self.place = Place::Type;
        while let Some(remaining) = self.open.last_mut() {
            *remaining -= 1;
            if *remaining > 0 {
                return;
            }
            self.open.pop();
        }
        self.values = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_every_type_are_followed_at_any_split() {
        let replies =
            b"+OK\r\n$3\r\na\r\n\r\n*2\r\n*-1\r\n*1\r\n:-5\r\n%1\r\n+k\r\n$0\r\n\r\n|1\r\n+a\r\n:1\r\n,1.5\r\n\
                        $-1\r\n>2\r\n+invalidate\r\n*0\r\n_\r\n#t\r\n=5\r\ntxt:x\r\n(12\r\n!3\r\nERR\r\n~1\r\n-E x\r\n";
        for size in 1..40 {
            let mut bounds = ReplyBounds::new(10);
            for part in replies.chunks(size) {
                bounds.follow(part).unwrap();
            }
            assert!(matches!(bounds.place, Place::Type) && bounds.open.is_empty() && bounds.values == 0, "{size}");
        }
    }

    #[test]
    fn a_reply_beyond_the_bounds_is_refused_at_its_announcement() {
        let follow = |bytes: &[u8]| ReplyBounds::new(10).follow(bytes);
        assert_eq!(follow(b"$10\r\n"), Ok(()));
        for announced in ["$11\r\n", "$99999999999999999999999\r\n", "*1048577\r\n", "%600000\r\n", "=1073741824\r\n"] {
            assert_eq!(follow(announced.as_bytes()), Err(BadReply::TooLarge), "{announced}");
        }
        assert_eq!(follow(&[b"+".as_slice(), &b"a".repeat(MAX_LINE + 1)].concat()), Err(BadReply::TooLarge));
        assert_eq!(follow(&b"*1\r\n".repeat(MAX_DEPTH + 1)), Err(BadReply::TooLarge));
        let many = [b"*2\r\n*1000000\r\n".as_slice(), &b"_\r\n".repeat(1_000_000), b"*1000000\r\n"].concat();
        let more = [many.as_slice(), &b"_\r\n".repeat(50_000)].concat();
        assert_eq!((follow(&many), follow(&more)), (Ok(()), Err(BadReply::TooLarge)));
        assert_eq!(follow(b"\x15\x03\x01"), Err(BadReply::Tls));
        assert_eq!(follow(b"+OK\r\nHTTP/1.1"), Err(BadReply::Foreign));
    }
}
