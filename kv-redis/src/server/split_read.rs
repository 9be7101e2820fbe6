//! Reads of many keys, split into reads of one key each.
//!
//! While a slot is being moved, some of its keys are on one server and some on another. If the keys of a command are on
//! two servers, both servers refuse the command (`TRYAGAIN`). A command with one key succeeds on one of the servers.

use redis::{Cmd, Value};

use crate::error::Failure;
use crate::script::{Scripts, words};

/// The maximum number of commands, with one key each, that are sent at the same time.
const COMMANDS_AT_ONCE: usize = 16;

/// A read of many keys that is split into commands with one key each.
pub(crate) struct SplitRead {
    /// The words of each command before its key.
    before: Vec<Vec<u8>>,
    /// The keys that are still to be read.
    keys: std::vec::IntoIter<Vec<u8>>,
    /// The words of each command after its key.
    after: Vec<Vec<u8>>,
    /// The number of bytes of values that the reply may still get. At 0 the reply ends.
    bytes_left: usize,
    reply: Reply,
}

/// The reply to the whole read so far.
enum Reply {
    Count(i64),
    List(Vec<Value>),
}

impl SplitRead {
    /// Splits a command that reads several keys. Returns `None` for a command with one key, and for a write, because a
    /// write must stay atomic.
    pub(crate) fn of(cmd: &Cmd, scripts: &Scripts) -> Option<Self> {
        let mut words = words(cmd).map(<[u8]>::to_vec);
        let name = words.next()?;
        let (before, keys, after, bytes_left, reply) = match name.as_slice() {
            b"MGET" => (vec![name], words.collect(), Vec::new(), usize::MAX, Reply::List(Vec::new())),
            b"EXISTS" => (vec![name], words.collect(), Vec::new(), usize::MAX, Reply::Count(0)),
            b"EVALSHA" => {
                let digest = words.next().filter(|digest| scripts.page.has_digest(digest))?;
                let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<usize>().ok();
                let count = number(&words.next()?)?;
                let keys: Vec<_> = words.by_ref().take(count).collect();
                let after: Vec<_> = words.collect();
                let bytes_left = number(after.first()?)?;
                (vec![name, digest, b"1".to_vec()], keys, after, bytes_left, Reply::List(Vec::new()))
            }
            _ => return None,
        };
        (keys.len() > 1).then(|| Self { before, keys: keys.into_iter(), after, bytes_left, reply })
    }

    /// Returns the next commands, each with one key; `None` if the reply is complete.
    pub(crate) fn next(&mut self) -> Option<Vec<Cmd>> {
        if self.bytes_left == 0 {
            return None;
        }
        let (before, after) = (&self.before, &self.after);
        let cmds: Vec<Cmd> = self
            .keys
            .by_ref()
            .take(COMMANDS_AT_ONCE)
            .map(|key| {
                let mut cmd = Cmd::new();
                before.iter().chain([&key]).chain(after).for_each(|word| {
                    cmd.arg(word);
                });
                cmd
            })
            .collect();
        (!cmds.is_empty()).then_some(cmds)
    }

    /// Appends the reply of the next command, in the order of [`next`](Self::next).
    pub(crate) fn append(&mut self, reply: Value) -> Result<(), Failure> {
        match (&mut self.reply, reply) {
            (Reply::Count(count), Value::Int(one)) => *count += one,
            (Reply::List(_), Value::Array(values)) if values.is_empty() => self.bytes_left = 0,
            (Reply::List(list), Value::Array(values)) if self.bytes_left > 0 => {
                self.bytes_left = self.bytes_left.saturating_sub(values.iter().map(length).sum());
                list.extend(values);
            }
            // The page was already full at an earlier key, so this reply does not belong to it.
            (Reply::List(_), Value::Array(_)) => {}
            _ => return Err(Failure::UnexpectedReply),
        }
        Ok(())
    }

    /// Returns the reply that the whole command would have had.
    pub(crate) fn into_reply(self) -> Value {
        match self.reply {
            Reply::Count(count) => Value::Int(count),
            Reply::List(list) => Value::Array(list),
        }
    }
}

/// Returns the number of bytes in a reply.
fn length(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len(),
        Value::Array(values) => values.iter().map(length).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Format;

    fn words(cmd: &Cmd) -> Vec<String> {
        super::words(cmd).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn a_read_of_many_keys_is_split_by_key_and_its_replies_are_joined() {
        let scripts = Scripts::new(Format::Entry);
        let mut split = SplitRead::of(redis::cmd("MGET").arg("a").arg("b"), &scripts).unwrap();
        let cmds = split.next().unwrap();
        assert_eq!(cmds.iter().map(words).collect::<Vec<_>>(), [["MGET", "a"], ["MGET", "b"]]);
        let value = Value::BulkString(b"v".to_vec());
        for reply in [Value::Nil, value.clone()] {
            split.append(Value::Array(vec![reply])).unwrap();
        }
        assert!(split.next().is_none());
        assert_eq!(split.into_reply(), Value::Array(vec![Value::Nil, value]));

        let mut split = SplitRead::of(redis::cmd("EXISTS").arg("a").arg("b"), &scripts).unwrap();
        assert_eq!(split.next().unwrap().len(), 2);
        for reply in [0, 1] {
            split.append(Value::Int(reply)).unwrap();
        }
        assert_eq!(split.into_reply(), Value::Int(1));
    }

    #[test]
    fn a_page_ends_at_the_key_that_fills_it() {
        let scripts = Scripts::new(Format::Entry);
        let mut call = scripts.page.call([b"a".as_ref(), b"b".as_ref(), b"c".as_ref()]);
        call.arg(2).arg(1);
        let mut split = SplitRead::of(&call, &scripts).unwrap();
        let cmds = split.next().unwrap();
        assert_eq!(words(&cmds[1])[2..], ["1", "b", "2", "1"]);
        let value = || Value::BulkString(b"v".to_vec());
        for _ in cmds {
            split.append(Value::Array(vec![value()])).unwrap();
        }
        assert_eq!(split.into_reply(), Value::Array(vec![value(), value()]));
    }

    #[test]
    fn a_write_and_a_read_of_one_key_are_not_split() {
        let scripts = Scripts::new(Format::Entry);
        for cmd in [scripts.set.call([b"a".as_ref(), b"b".as_ref()]), redis::cmd("GET").arg("a").take()] {
            assert!(SplitRead::of(&cmd, &scripts).is_none());
        }
        assert!(SplitRead::of(redis::cmd("MGET").arg("a"), &scripts).is_none());
    }
}
