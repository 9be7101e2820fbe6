//! Bounds on the replies of a server.
//!
//! The driver collects a whole reply of any length in memory. With every read, the driver also searches an unfinished
//! line again from the start of the line. Therefore a hostile server could use up memory and time. This module follows
//! the frames of the protocol, and ends the connection if the server sends more than the command can return.

use std::fmt;

use crate::server::sent_commands::SentCommands;

/// The maximum number of bytes in a line. A line holds a number, a status or an error.
const MAX_LINE: usize = 64 << 10;

/// The maximum number of bytes of a reply, in addition to the stored values that its command reads: headers, keys,
/// numbers, the settings of a server, the slots of a cluster, and the page that the script of a page fills.
const MAX_REPLY: u64 = 16 << 20;

/// The maximum number of bytes of a push: the names of changed keys, or a message. Subscribers get a gap if the server
/// sends a longer push, because a longer push ends the connection.
const MAX_PUSH: u64 = 64 << 20;

/// The maximum number of values in one reply, including nested values. The replies with the most values are
/// invalidations of many keys.
const MAX_VALUES: u64 = 1 << 20;

/// The maximum depth of nested values. The driver has the same maximum.
const MAX_DEPTH: usize = 100;

/// The reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadReply {
    /// The server replied with TLS to a client without TLS.
    Tls,
    /// The server replied without TLS to a client with TLS.
    NoTls,
    /// The server has as many connections as its `maxclients` allows.
    Full,
    /// The bytes are not of the Redis protocol.
    Foreign,
    /// A value, a line, the number of values or the whole reply exceeds the maximum for replies to the command.
    TooLarge,
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "the server replies with TLS",
            Self::NoTls => "the server replies without TLS",
            Self::Full => "the server has as many connections as its `maxclients` allows",
            Self::Foreign => "the server's reply is not of the Redis protocol",
            Self::TooLarge => "a reply of the server is too large",
        })
    }
}

impl std::error::Error for BadReply {}

/// Follows the frames of the replies on one connection.
#[derive(Debug)]
pub(crate) struct ReplyBounds {
    /// The maximum number of bytes of one value.
    max_value: u64,
    sent: SentCommands,
    position: Position,
    /// The number of bytes that the current reply may still have.
    bytes_left: u64,
    /// The number of values that are still to come, for each unfinished list of the current reply.
    open: Vec<u64>,
    /// The number of values of the current reply so far.
    values: u64,
    /// True before the first byte of the first reply.
    is_first: bool,
}

/// The position of the next byte in the protocol.
#[derive(Debug, Clone, Copy)]
enum Position {
    /// The first byte of a value. This byte is the type of the value.
    Type,
    /// The header line of a value whose type byte is `kind`. `length` is the number of bytes of the line so far, and
    /// `number` is the number that the line contains so far.
    Line { kind: u8, length: usize, number: Number },
    /// The bytes of a value and of the line end after it. Contains the number of bytes that are still to come.
    Bytes(u64),
}

/// A number that a line contains.
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
        Self {
            max_value,
            sent: SentCommands::default(),
            position: Position::Type,
            bytes_left: 0,
            open: Vec::new(),
            values: 0,
            is_first: true,
        }
    }

    /// Follows the next bytes that were sent to the server, to know the commands.
    pub(crate) fn follow_sent(&mut self, sent: &[u8]) {
        self.sent.follow(sent);
    }

    /// Follows the next received bytes.
    ///
    /// # Errors
    /// The reason to end the connection.
    pub(crate) fn follow(&mut self, mut received: &[u8]) -> Result<(), BadReply> {
        // The server sends this error before the first command. The driver would mistake this error for the reply to a
        // command.
        if self.is_first && received.starts_with(b"-ERR max number of clients") {
            return Err(BadReply::Full);
        }
        while let Some((&byte, rest)) = received.split_first() {
            match &mut self.position {
                Position::Type => {
                    if !b"+-:_,#($!=*%~|>".contains(&byte) {
                        // 21 is an alert of TLS, 22 a handshake.
                        return Err(if self.is_first && matches!(byte, 21 | 22) {
                            BadReply::Tls
                        } else {
                            BadReply::Foreign
                        });
                    }
                    self.is_first = false;
                    if self.values == 0 {
                        self.bytes_left = self.budget(byte);
                    }
                    self.values += 1;
                    if self.values > MAX_VALUES {
                        return Err(BadReply::TooLarge);
                    }
                    self.position = Position::Line { kind: byte, length: 0, number: Number::default() };
                    received = rest;
                }
                Position::Line { kind, length, number } => {
                    received = rest;
                    *length += 1;
                    if *length > MAX_LINE {
                        return Err(BadReply::TooLarge);
                    }
                    if byte == b'\n' {
                        let (kind, length, number) = (*kind, *length, *number);
                        self.spend(u64::try_from(length).unwrap_or(u64::MAX))?;
                        self.end_line(kind, number)?;
                    } else {
                        number.add(byte);
                    }
                }
                Position::Bytes(remaining) => {
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

    /// Returns the maximum number of bytes of a reply or push whose first byte is `kind`.
    fn budget(&mut self, kind: u8) -> u64 {
        if kind == b'>' {
            return MAX_PUSH;
        }
        MAX_REPLY.saturating_add(self.max_value.saturating_mul(self.sent.take_values()))
    }

    /// Subtracts bytes of the current reply from the number of bytes that this reply may still have.
    fn spend(&mut self, bytes: u64) -> Result<(), BadReply> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(BadReply::TooLarge)?;
        Ok(())
    }

    /// Ends a line, which announces the number of bytes or values that follow.
    fn end_line(&mut self, kind: u8, number: Number) -> Result<(), BadReply> {
        let count = if number.is_negative { 0 } else { number.value };
        let values = match kind {
            b'$' | b'!' | b'=' if number.is_negative => 0,
            b'$' | b'!' | b'=' => {
                if count > self.max_value {
                    return Err(BadReply::TooLarge);
                }
                self.spend(count)?;
                self.position = Position::Bytes(count + 2);
                return Ok(());
            }
            b'*' | b'~' | b'>' => count,
            b'%' => count.saturating_mul(2),
            // Attributes are followed by the value that they describe, which counts as one more value of the list.
            b'|' => count.saturating_mul(2).saturating_add(1),
            _ => 0,
        };
        if values > MAX_VALUES || self.open.len() >= MAX_DEPTH {
            return Err(BadReply::TooLarge);
        }
        self.position = Position::Type;
        if values > 0 {
            self.open.push(values);
        } else {
            self.end_value();
        }
        Ok(())
    }

    /// Ends a value, and each list whose last value has ended.
    fn end_value(&mut self) {
        self.position = Position::Type;
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
            assert!(
                matches!(bounds.position, Position::Type) && bounds.open.is_empty() && bounds.values == 0,
                "{size}"
            );
        }
    }

    #[test]
    fn a_reply_beyond_the_bounds_is_refused_when_it_is_announced() {
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
