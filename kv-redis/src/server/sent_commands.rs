//! The commands that were sent on a connection and have no reply yet.
//!
//! Only the bytes that leave the driver show the order of the commands, because many tasks share a connection.
//! Therefore this module follows those bytes, and records for each command the number of stored values that the reply
//! may contain.

use std::collections::VecDeque;

/// The maximum number of bytes of a command's name that are kept: the length of the longest name below.
const NAME_BYTES: usize = 12;

/// Follows the commands that are sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct SentCommands {
    position: Position,
    /// The number in the current line, as far as it was sent.
    number: u64,
    /// The number of words of the current command.
    words: u64,
    /// The number of words of the current command that are still to come.
    words_left: u64,
    name: [u8; NAME_BYTES],
    name_length: usize,
    /// For each unanswered command, the number of stored values that its reply may contain, in the order of the
    /// commands.
    unanswered: VecDeque<u64>,
}

/// The position of the next byte in the current command.
#[derive(Debug, Clone, Copy, Default)]
enum Position {
    /// The line with the number of words.
    #[default]
    Words,
    /// The line with the length of a word.
    Length,
    /// A word and the line end after it. Contains the number of bytes that are still to come.
    Word(u64),
}

impl SentCommands {
    /// Follows the next sent bytes.
    pub(crate) fn follow(&mut self, mut sent: &[u8]) {
        while let Some((&byte, rest)) = sent.split_first() {
            let Position::Word(remaining) = self.position else {
                sent = rest;
                match byte {
                    b'0'..=b'9' => self.number = self.number.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
                    b'\n' => self.end_line(),
                    _ => {}
                }
                continue;
            };
            let taken = remaining.min(u64::try_from(sent.len()).unwrap_or(u64::MAX));
            let (word, rest) = sent.split_at(usize::try_from(taken).unwrap_or(sent.len()));
            if self.words_left == self.words {
                self.keep_name(word);
            }
            sent = rest;
            self.position = Position::Word(remaining - taken);
            if remaining == taken {
                self.end_word();
            }
        }
    }

    /// Returns the number of stored values that the next reply may contain. A reply without a command may contain none.
    pub(crate) fn take_values(&mut self) -> u64 {
        self.unanswered.pop_front().unwrap_or(0)
    }

    fn end_line(&mut self) {
        let number = std::mem::take(&mut self.number);
        if matches!(self.position, Position::Words) {
            (self.words, self.words_left, self.name_length) = (number, number, 0);
            self.position = if number == 0 { Position::Words } else { Position::Length };
        } else {
            self.position = Position::Word(number.saturating_add(2));
        }
    }

    fn keep_name(&mut self, part: &[u8]) {
        let kept = self.name.get_mut(self.name_length..).unwrap_or_default();
        kept.iter_mut().zip(part).for_each(|(target, byte)| *target = *byte);
        self.name_length += kept.len().min(part.len());
    }

    fn end_word(&mut self) {
        self.words_left -= 1;
        self.position = if self.words_left > 0 { Position::Length } else { Position::Words };
        if self.words_left == 0
            && let Some(values) = self.values()
        {
            self.unanswered.push_back(values);
        }
    }

    /// Returns the number of stored values that the reply to the current command may contain; `None` if the server
    /// replies with a push.
    fn values(&self) -> Option<u64> {
        let name = self.name.get(..self.name_length).unwrap_or_default().trim_ascii_end();
        match name {
            b"MGET" => Some(self.words - 1),
            // A script returns at most one value. The script of a page returns one value more than fits in the page.
            // A scan returns keys, which are as long as a value if another program has written them.
            b"GET" | b"EVALSHA" | b"EVAL" | b"SCAN" => Some(1),
            b"PSUBSCRIBE" | b"PUNSUBSCRIBE" => None,
            _ => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_each_command_are_known_at_any_split() {
        let mut commands = vec![redis::cmd("GET").arg("k").get_packed_command()];
        commands.push(redis::cmd("MGET").arg(&["a", "b", "*9\r\n$4\r\nMGET"]).get_packed_command());
        commands.push(redis::cmd("PUNSUBSCRIBE").arg("p*").get_packed_command());
        commands.push(redis::cmd("PING").get_packed_command());
        commands.push(redis::cmd("EVALSHA").arg("digest").arg(0).arg(b"").get_packed_command());
        let sent = commands.concat();
        for size in 1..sent.len() {
            let mut followed = SentCommands::default();
            sent.chunks(size).for_each(|part| followed.follow(part));
            assert_eq!(followed.unanswered, [1, 3, 0, 1], "{size}");
            assert_eq!([(); 5].map(|()| followed.take_values()), [1, 3, 0, 1, 0]);
        }
    }
}
